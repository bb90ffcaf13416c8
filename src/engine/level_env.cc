/* LevelDB's environment over the file seam.  SPDX-License-Identifier: Apache-2.0
 *
 * E1 a log file is synced, and its name is durable, before it is closed; so when a younger log has
 * content, an older one is whole.  E2 the reader of a log or manifest gets its whole records up to
 * the first that is not, and nothing behind.  E3 a failed sync at close, which LevelDB ignores, is
 * kept in error(). */
#include "engine/level_env.hh"

#include <cerrno>
#include <chrono>
#include <cstring>

extern "C" {
#include "base/crc.h"
#include "base/mem.h"
}

using leveldb::Slice;
using leveldb::Status;

namespace
{

constexpr size_t LOG_BLOCK = 32768; /* matters: LevelDB's log format */
constexpr size_t LOG_HEADER = 7;    /* crc 4, length 2, type 1 */
constexpr uint32_t LOG_MASK = 0xa282ead8u;
constexpr size_t WRITE_BUFFER = 65536; /* does not matter */
constexpr size_t SLURP_MAX = size_t{1} << 32;

std::string dir_of(const std::string &path)
{
    size_t slash = path.rfind('/');
    return slash == std::string::npos ? "." : path.substr(0, slash);
}

std::string name_of(const std::string &path)
{
    size_t slash = path.rfind('/');
    return slash == std::string::npos ? path : path.substr(slash + 1);
}

bool is_log(const std::string &path)
{
    return path.size() > 4 && path.compare(path.size() - 4, 4, ".log") == 0;
}

bool is_manifest(const std::string &path)
{
    return name_of(path).compare(0, 8, "MANIFEST") == 0;
}

/* One part of a record at `at`: its length and type (1 all of it, 2 first, 3 middle, 4 last part);
 * false when it is not sound. */
bool log_part(const std::string &log, size_t at, size_t *out_len, unsigned *out_type)
{
    size_t left = LOG_BLOCK - at % LOG_BLOCK;
    if (left < LOG_HEADER || at + LOG_HEADER > log.size())
        return false;
    const auto *p = reinterpret_cast<const uint8_t *>(log.data()) + at;
    uint32_t crc =
        uint32_t{p[0]} | uint32_t{p[1]} << 8 | uint32_t{p[2]} << 16 | uint32_t{p[3]} << 24;
    size_t n = size_t{p[4]} | size_t{p[5]} << 8;
    *out_len = LOG_HEADER + n;
    *out_type = p[6];
    if (p[6] < 1 || p[6] > 4 || *out_len > left || at + *out_len > log.size())
        return false;
    uint32_t real = crc_update(0, p + 6, n + 1);
    return ((real >> 15) | (real << 17)) + LOG_MASK == crc;
}

/* How many bytes of a log file are whole records. */
size_t log_prefix(const std::string &log)
{
    size_t at = 0, whole = 0, n = 0;
    unsigned type = 0;
    bool in_record = false;
    while (at + LOG_HEADER <= log.size()) {
        size_t left = LOG_BLOCK - at % LOG_BLOCK;
        if (left < LOG_HEADER) {
            at += left;
            continue;
        }
        if (!log_part(log, at, &n, &type))
            break;
        if ((type == 1 || type == 2) == in_record)
            break;
        in_record = type == 2 || type == 3;
        at += n;
        whole = in_record ? whole : at;
    }
    return whole;
}

/* Is there a sound part right behind the one that is not?  A manifest is synced after every record,
 * so that is damage. */
bool is_sound_behind(const std::string &log, size_t whole)
{
    size_t n = 0;
    unsigned type = 0;
    if (log_part(log, whole, &n, &type) || n == 0)
        return false; /* only unfinished */
    return log_part(log, whole + n, &n, &type);
}

Status slurp(struct engine_fs fs, const std::string &path, std::string *out)
{
    struct buf b = {};
    int r = engine_fs_slurp(fs, path.c_str(), SLURP_MAX, &b);
    out->assign(reinterpret_cast<const char *>(b.p), b.n);
    buf_deinit(&b);
    return engine_level_status(path, r);
}

class sequential_file final : public leveldb::SequentialFile
{
  public:
    explicit sequential_file(std::string content) : content_(std::move(content))
    {
    }

    Status Read(size_t n, Slice *result, char *scratch) override
    {
        n = std::min(n, content_.size() - at_);
        if (n > 0)
            std::memcpy(scratch, content_.data() + at_, n);
        at_ += n;
        *result = Slice(scratch, n);
        return Status::OK();
    }

    Status Skip(uint64_t n) override
    {
        at_ += std::min<size_t>(n, content_.size() - at_);
        return Status::OK();
    }

  private:
    std::string content_;
    size_t at_ = 0;
};

class random_file final : public leveldb::RandomAccessFile
{
  public:
    random_file(struct engine_fs fs, struct engine_file *f) : fs_(fs), f_(f)
    {
    }

    ~random_file() override
    {
        fs_.ops->close(f_);
    }

    Status Read(uint64_t off, size_t n, Slice *result, char *scratch) const override
    {
        int64_t r = fs_.ops->pread(f_, scratch, n, off);
        *result = Slice(scratch, r > 0 ? static_cast<size_t>(r) : 0);
        return r < 0 ? engine_level_status("read", static_cast<int>(r)) : Status::OK();
    }

  private:
    struct engine_fs fs_;
    struct engine_file *f_;
};

class writable_file final : public leveldb::WritableFile
{
  public:
    writable_file(engine_level_env *env, std::string path, struct engine_file *f)
        : env_(env), path_(std::move(path)), f_(f)
    {
    }

    ~writable_file() override
    {
        if (f_ != nullptr && !Close().ok())
            env_->fail(-EIO); /* E3 */
    }

    Status Append(const Slice &data) override
    {
        buffer_.append(data.data(), data.size());
        return buffer_.size() >= WRITE_BUFFER ? Flush() : Status::OK();
    }

    Status Flush() override
    {
        if (buffer_.empty())
            return Status::OK();
        struct iovec v = {&buffer_[0], buffer_.size()};
        int r = env_->fs.ops->pwritev(f_, &v, 1, at_);
        at_ += buffer_.size();
        buffer_.clear();
        return engine_level_status(path_, r);
    }

    Status Sync() override
    {
        Status s = Flush();
        if (s.ok() && (!is_named_ || is_manifest(path_))) {
            s = engine_level_status(path_,
                                    env_->fs.ops->dirsync(env_->fs.arg, dir_of(path_).c_str()));
            is_named_ = s.ok();
        }
        if (s.ok())
            s = engine_level_status(path_, env_->fs.ops->fdatasync(f_));
        return s;
    }

    Status Close() override
    {
        Status s = is_log(path_) && !env_->is_unordered ? Sync() : Flush(); /* E1 */
        env_->fs.ops->close(f_);
        f_ = nullptr;
        return s;
    }

  private:
    engine_level_env *env_;
    std::string path_, buffer_;
    struct engine_file *f_;
    uint64_t at_ = 0;
    bool is_named_ = false; /* its name is durable */
};

class file_lock final : public leveldb::FileLock
{
  public:
    explicit file_lock(struct engine_file *file) : f(file)
    {
    }
    struct engine_file *f;
};

class silent_logger final : public leveldb::Logger
{
  public:
    void Logv(const char *, std::va_list) override
    {
    }
};

/* Is there a younger log with content?  Then this one was closed, hence synced. */
bool has_younger_log(engine_level_env *env, const std::string &path)
{
    std::vector<std::string> names;
    if (!env->GetChildren(dir_of(path), &names).ok())
        return false;
    for (const auto &n : names) {
        std::string content;
        if (is_log(n) && n > name_of(path) &&
            slurp(env->fs, dir_of(path) + "/" + n, &content).ok() && log_prefix(content) > 0)
            return true;
    }
    return false;
}

} // namespace

Status engine_level_status(const std::string &what, int error)
{
    if (error >= 0)
        return Status::OK();
    char text[128];
    const char *why = strerror_r(-error, text, sizeof text);
    return error == -ENOENT ? Status::NotFound(what, why) : Status::IOError(what, why);
}

engine_level_env::engine_level_env(struct engine_fs f, bool unordered)
    : fs(f), is_unordered(unordered)
{
}

engine_level_env::~engine_level_env()
{
    {
        std::lock_guard<std::mutex> hold(mutex_);
        is_stopping_ = true;
        cond_.notify_all();
    }
    if (thread_.joinable())
        thread_.join();
}

Status engine_level_env::NewSequentialFile(const std::string &path, leveldb::SequentialFile **out)
{
    std::string content;
    Status s = slurp(fs, path, &content);
    if (!s.ok())
        return s;
    if ((is_log(path) || is_manifest(path)) && !is_unordered) { /* E2 */
        size_t whole = log_prefix(content);
        if (is_manifest(path) && is_sound_behind(content, whole))
            return Status::Corruption(path, "a record is damaged");
        if (is_log(path) && whole < content.size() && has_younger_log(this, path))
            return Status::Corruption(path, "a closed log is not whole");
        content.resize(whole);
    }
    *out = new sequential_file(std::move(content));
    return s;
}

Status engine_level_env::NewRandomAccessFile(const std::string &path,
                                             leveldb::RandomAccessFile **out)
{
    struct engine_file *f;
    Status s = engine_level_status(path, fs.ops->open(fs.arg, path.c_str(), ENGINE_FS_READ, &f));
    if (s.ok())
        *out = new random_file(fs, f);
    return s;
}

Status engine_level_env::NewWritableFile(const std::string &path, leveldb::WritableFile **out)
{
    struct engine_file *f;
    Status s = engine_level_status(path, fs.ops->open(fs.arg, path.c_str(), ENGINE_FS_EMPTY, &f));
    if (s.ok())
        *out = new writable_file(this, path, f);
    return s;
}

bool engine_level_env::FileExists(const std::string &path)
{
    uint64_t size;
    return GetFileSize(path, &size).ok();
}

Status engine_level_env::GetChildren(const std::string &dir, std::vector<std::string> *out)
{
    struct buf b = {};
    int r = fs.ops->list(fs.arg, dir.c_str(), &b);
    out->clear();
    for (size_t at = 0; at < b.n; at += out->back().size() + 1)
        out->emplace_back(reinterpret_cast<const char *>(b.p) + at);
    buf_deinit(&b);
    return engine_level_status(dir, r);
}

Status engine_level_env::RemoveFile(const std::string &path)
{
    return engine_level_status(path, fs.ops->unlink(fs.arg, path.c_str()));
}

Status engine_level_env::CreateDir(const std::string &path)
{
    return engine_level_status(path, fs.ops->mkdir(fs.arg, path.c_str()));
}

Status engine_level_env::RemoveDir(const std::string &path)
{
    return Status::NotSupported(path);
}

Status engine_level_env::GetFileSize(const std::string &path, uint64_t *out)
{
    struct engine_file *f;
    *out = 0;
    int r = fs.ops->open(fs.arg, path.c_str(), ENGINE_FS_READ, &f);
    if (r < 0)
        return engine_level_status(path, r);
    int64_t n = fs.ops->size(f);
    fs.ops->close(f);
    *out = n > 0 ? static_cast<uint64_t>(n) : 0;
    return engine_level_status(path, n < 0 ? static_cast<int>(n) : 0);
}

Status engine_level_env::RenameFile(const std::string &from, const std::string &to)
{
    return engine_level_status(from, fs.ops->rename(fs.arg, from.c_str(), to.c_str()));
}

Status engine_level_env::LockFile(const std::string &path, leveldb::FileLock **out)
{
    struct engine_file *f;
    *out = nullptr;
    int r = fs.ops->open(fs.arg, path.c_str(), ENGINE_FS_WRITE, &f);
    if (r < 0)
        return engine_level_status(path, r);
    r = fs.ops->lock(f);
    if (r < 0)
        fs.ops->close(f);
    else
        *out = new file_lock(f);
    return engine_level_status(path, r);
}

Status engine_level_env::UnlockFile(leveldb::FileLock *lock)
{
    auto *mine = static_cast<file_lock *>(lock);
    fs.ops->close(mine->f);
    delete mine;
    return Status::OK();
}

void engine_level_env::Schedule(void (*function)(void *), void *arg)
{
    std::lock_guard<std::mutex> hold(mutex_);
    if (!thread_.joinable())
        thread_ = std::thread(&engine_level_env::run, this);
    jobs_.emplace_back(function, arg);
    cond_.notify_one();
}

void engine_level_env::run()
{
    std::unique_lock<std::mutex> hold(mutex_);
    for (;;) {
        cond_.wait(hold, [this] { return is_stopping_ || !jobs_.empty(); });
        if (jobs_.empty())
            return;
        auto job = jobs_.front();
        jobs_.pop_front();
        hold.unlock();
        job.first(job.second);
        hold.lock();
    }
}

void engine_level_env::StartThread(void (*function)(void *), void *arg)
{
    std::thread(function, arg).detach();
}

Status engine_level_env::GetTestDirectory(std::string *)
{
    return Status::NotSupported("test directory");
}

Status engine_level_env::NewLogger(const std::string &, leveldb::Logger **out)
{
    *out = new silent_logger();
    return Status::OK();
}

uint64_t engine_level_env::NowMicros()
{
    using namespace std::chrono;
    return static_cast<uint64_t>(
        duration_cast<microseconds>(steady_clock::now().time_since_epoch()).count());
}

void engine_level_env::SleepForMicroseconds(int usec)
{
    std::this_thread::sleep_for(std::chrono::microseconds(usec));
}
