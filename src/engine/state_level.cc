/* Rows in LevelDB.  SPDX-License-Identifier: Apache-2.0
 *
 * One database, one environment with its own background thread.  An error of a write, or of a sync
 * that LevelDB did not look at, is final. */
#include <cerrno>

#include <leveldb/cache.h>
#include <leveldb/db.h>
#include <leveldb/filter_policy.h>
#include <leveldb/write_batch.h>

#include "engine/level_env.hh"

extern "C" {
#include "base/mem.h"
#include "engine/state_priv.h"
}

using leveldb::Slice;
using leveldb::Status;

namespace
{

constexpr int BLOOM_BITS = 10;

struct table {
    struct engine_table head;
    engine_level_env *env;
    leveldb::Cache *cache;
    const leveldb::FilterPolicy *filter;
    leveldb::Logger *logger;
    leveldb::DB *db;
};

table *of(struct engine_table *t)
{
    return reinterpret_cast<table *>(t);
}

Slice slice(struct str s)
{
    return Slice(s.n > 0 ? s.p : "", s.n);
}

struct str view(const Slice &s)
{
    return str_view(s.data(), s.size());
}

int error_of(const Status &s)
{
    if (s.ok())
        return 0;
    return s.IsCorruption() ? -EBADMSG : -EIO;
}

int level_write(struct engine_table *t, const struct engine_change *change, size_t count,
                bool is_synced)
{
    leveldb::WriteBatch w;
    for (size_t i = 0; i < count; i++) {
        if (change[i].is_del)
            w.Delete(slice(change[i].key));
        else
            w.Put(slice(change[i].key), slice(change[i].value));
    }
    leveldb::WriteOptions o;
    o.sync = is_synced;
    Status s = of(t)->db->Write(o, &w);
    return s.ok() ? of(t)->env->error() : error_of(s);
}

int level_get(struct engine_table *t, const void *snap, struct str key, struct buf *out)
{
    leveldb::ReadOptions o;
    o.snapshot = static_cast<const leveldb::Snapshot *>(snap);
    o.verify_checksums = true;
    std::string value;
    Status s = of(t)->db->Get(o, slice(key), &value);
    if (s.IsNotFound())
        return ENGINE_STATE_E_NONE;
    if (s.ok())
        buf_put(out, value.data(), value.size());
    return error_of(s);
}

const void *level_snap(struct engine_table *t)
{
    return of(t)->db->GetSnapshot();
}

void level_release(struct engine_table *t, const void *snap)
{
    of(t)->db->ReleaseSnapshot(static_cast<const leveldb::Snapshot *>(snap));
}

leveldb::Iterator *iter(struct engine_cursor *c)
{
    return reinterpret_cast<leveldb::Iterator *>(c);
}

struct engine_cursor *level_cursor(struct engine_table *t, const void *snap)
{
    leveldb::ReadOptions o;
    o.snapshot = static_cast<const leveldb::Snapshot *>(snap);
    o.verify_checksums = true;
    return reinterpret_cast<struct engine_cursor *>(of(t)->db->NewIterator(o));
}

int at(leveldb::Iterator *it, struct engine_row *out)
{
    if (!it->Valid())
        return it->status().ok() ? static_cast<int>(ENGINE_STATE_E_NONE) : error_of(it->status());
    out->key = view(it->key());
    out->value = view(it->value());
    return 0;
}

int level_seek(struct engine_cursor *c, struct str key, bool is_before, struct engine_row *out)
{
    if (key.n > 0)
        iter(c)->Seek(slice(key));
    if (is_before && key.n > 0 && iter(c)->Valid())
        iter(c)->Prev();
    else if (is_before)
        iter(c)->SeekToLast();
    else if (key.n == 0)
        iter(c)->SeekToFirst();
    return at(iter(c), out);
}

int level_step(struct engine_cursor *c, bool is_back, struct engine_row *out)
{
    if (!iter(c)->Valid())
        return at(iter(c), out);
    if (is_back)
        iter(c)->Prev();
    else
        iter(c)->Next();
    return at(iter(c), out);
}

void level_cursor_free(struct engine_cursor *c)
{
    delete iter(c);
}

uint64_t level_size(struct engine_table *t, struct str from, struct str to)
{
    leveldb::Range r(slice(from), slice(to));
    uint64_t n = 0;
    of(t)->db->GetApproximateSizes(&r, 1, &n);
    return n;
}

int level_pressure(struct engine_table *t)
{
    std::string v;
    return of(t)->db->GetProperty("leveldb.num-files-at-level0", &v) ? std::stoi(v) : 0;
}

void level_close(struct engine_table *t)
{
    table *x = of(t);
    delete x->db;
    delete x->cache;
    delete x->filter;
    delete x->logger;
    delete x->env;
    delete x;
}

const struct engine_table_ops level_ops = {
    level_write, level_get,         level_snap, level_release,  level_cursor, level_seek,
    level_step,  level_cursor_free, level_size, level_pressure, level_close,
};

} // namespace

extern "C" int engine_level_open(const struct engine_state_conf *conf, struct engine_table **out,
                                 struct buf *out_why)
{
    auto *t = new table{};
    t->head.ops = &level_ops;
    t->env = new engine_level_env(conf->fs, conf->is_unordered);
    t->cache = leveldb::NewLRUCache(conf->cache_bytes > 0 ? conf->cache_bytes : size_t{8} << 20);
    t->filter = leveldb::NewBloomFilterPolicy(BLOOM_BITS);
    t->env->NewLogger("", &t->logger);
    leveldb::Options o;
    o.create_if_missing = true;
    o.env = t->env;
    o.info_log = t->logger;
    o.block_cache = t->cache;
    o.filter_policy = t->filter;
    if (conf->write_buffer_bytes > 0)
        o.write_buffer_size = conf->write_buffer_bytes;
    Status s = leveldb::DB::Open(o, conf->dir, &t->db);
    if (!s.ok()) {
        std::string why = s.ToString();
        buf_put(out_why, why.data(), why.size());
        level_close(&t->head);
        return s.IsCorruption() || s.IsInvalidArgument() ? -EBADMSG : -EIO;
    }
    *out = &t->head;
    return 0;
}
