/* LevelDB's view of the world: the file seam, and a thread of its own.
 * SPDX-License-Identifier: Apache-2.0
 *
 * LevelDB by itself does not keep a prefix of its writes across a power loss: it closes a full log
 * file without syncing it, so a later write that was synced can survive an earlier one that was
 * not; and reading a log back it skips a bad block and goes on behind it.  Here a log file is
 * synced before it is closed, and it ends for its reader at the first record that is not whole. */
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include <leveldb/env.h>

#ifndef _Noreturn
#define _Noreturn [[noreturn]]
#endif
extern "C" {
#include "engine/fs.h"
}

class engine_level_env final : public leveldb::Env
{
  public:
    engine_level_env(struct engine_fs fs, bool is_unordered);
    ~engine_level_env() override;

    leveldb::Status NewSequentialFile(const std::string &path,
                                      leveldb::SequentialFile **out) override;
    leveldb::Status NewRandomAccessFile(const std::string &path,
                                        leveldb::RandomAccessFile **out) override;
    leveldb::Status NewWritableFile(const std::string &path, leveldb::WritableFile **out) override;
    bool FileExists(const std::string &path) override;
    leveldb::Status GetChildren(const std::string &dir, std::vector<std::string> *out) override;
    leveldb::Status RemoveFile(const std::string &path) override;
    leveldb::Status CreateDir(const std::string &path) override;
    leveldb::Status RemoveDir(const std::string &path) override;
    leveldb::Status GetFileSize(const std::string &path, uint64_t *out) override;
    leveldb::Status RenameFile(const std::string &from, const std::string &to) override;
    leveldb::Status LockFile(const std::string &path, leveldb::FileLock **out) override;
    leveldb::Status UnlockFile(leveldb::FileLock *lock) override;
    void Schedule(void (*function)(void *), void *arg) override;
    void StartThread(void (*function)(void *), void *arg) override;
    leveldb::Status GetTestDirectory(std::string *path) override;
    leveldb::Status NewLogger(const std::string &path, leveldb::Logger **out) override;
    uint64_t NowMicros() override;
    void SleepForMicroseconds(int usec) override;

    /* The first error of a sync that LevelDB did not get to see: 0 or -errno. */
    int error() const
    {
        return error_.load();
    }

    void fail(int error)
    {
        int none = 0;
        error_.compare_exchange_strong(none, error);
    }

    const struct engine_fs fs;
    const bool is_unordered;

  private:
    void run();

    std::atomic<int> error_{0};
    std::mutex mutex_;
    std::condition_variable cond_;
    std::deque<std::pair<void (*)(void *), void *>> jobs_;
    bool is_stopping_ = false;
    std::thread thread_;
};

leveldb::Status engine_level_status(const std::string &what, int error);
