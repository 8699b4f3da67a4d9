/*
 * Every exported function, as a C program calls it: NULL, stale and garbage handles, invalid UTF-8, wrong JSON, NULL outputs,
 * unknown contexts, and then what is right. Run by tests/c/run, also under valgrind.
 */
#define _POSIX_C_SOURCE 200809L

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libjsondb.h"

static int failures = 0;

#define CHECK(condition, ...)                                   \
    do {                                                        \
        if (!(condition)) {                                     \
            failures++;                                         \
            fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);     \
            fprintf(stderr, __VA_ARGS__);                       \
            fprintf(stderr, "\n");                              \
        }                                                       \
    } while (0)

/* A call that must give this code; the last error must agree. */
#define EXPECT(wanted, call)                                                                              \
    do {                                                                                                  \
        int32_t got_ = (call);                                                                            \
        char *error_ = sop_last_error();                                                                  \
        CHECK(got_ == (wanted), "%s gave %" PRId32 ", not %d: %s", #call, got_, (int)(wanted),            \
              error_ != NULL ? error_ : "");                                                              \
        CHECK(sop_last_error_code() == got_, "%s: the last error's code is another", #call);              \
        CHECK((error_ == NULL) == (got_ == 0), "%s: the last error's text is there or not", #call);       \
        freeString(error_);                                                                               \
    } while (0)

#define TEXT(text) (text), strlen(text)

/* ---- Functions that take a handle ---- */

struct text {
    const char *data;
    size_t len;
};

/* Where results go; `null` stands for NULL in every place. */
struct out {
    int null;
    uint64_t handle;
    int64_t number;
    int32_t flag;
    char *text;
    float scores[4];
};

#define OUT(member) (o->null ? NULL : &o->member)

#define DOOR(name, call)                                                                     \
    static int32_t name(int64_t ctx, uint64_t h, struct text t, struct out *o)               \
    {                                                                                        \
        (void)t;                                                                             \
        (void)o;                                                                             \
        return call;                                                                         \
    }

static const float VECTOR[2] = {1.0f, 2.0f};

DOOR(database_close, sop_database_close(ctx, h))
DOOR(transaction_begin, sop_transaction_begin(ctx, h, SOP_TRANSACTION_MODE_FOR_WRITING, 1.0, OUT(handle)))
DOOR(transaction_commit, sop_transaction_commit(ctx, h))
DOOR(transaction_rollback, sop_transaction_rollback(ctx, h))
DOOR(btree_new, sop_btree_new(ctx, h, t.data, t.len, OUT(handle)))
DOOR(btree_open, sop_btree_open(ctx, h, t.data, t.len, OUT(handle)))
DOOR(btree_info, sop_btree_info(ctx, h, OUT(text)))
DOOR(btree_count, sop_btree_count(ctx, h, OUT(number)))
DOOR(btree_write, sop_btree_write(ctx, h, SOP_WRITE_ACTION_UPSERT, t.data, t.len, OUT(flag)))
DOOR(btree_remove, sop_btree_remove(ctx, h, t.data, t.len, OUT(flag)))
DOOR(btree_find, sop_btree_find(ctx, h, t.data, t.len, NULL, OUT(flag)))
DOOR(btree_find_one, sop_btree_find_one(ctx, h, t.data, t.len, 0, OUT(text)))
DOOR(btree_step, sop_btree_step(ctx, h, SOP_MOVE_FIRST, OUT(flag)))
DOOR(btree_current, sop_btree_current(ctx, h, OUT(text)))
DOOR(btree_update_current, sop_btree_update_current(ctx, h, t.data, t.len, OUT(flag)))
DOOR(btree_remove_current, sop_btree_remove_current(ctx, h, OUT(flag)))
DOOR(btree_page, sop_btree_page(ctx, h, t.data, t.len, 1, OUT(text)))
DOOR(btree_values, sop_btree_values(ctx, h, t.data, t.len, OUT(text)))
DOOR(btree_range, sop_btree_range(ctx, h, t.data, t.len, OUT(text)))
DOOR(vector_open, sop_vector_open(ctx, h, t.data, t.len, OUT(handle)))
DOOR(vector_upsert, sop_vector_upsert(ctx, h, t.data, t.len))
DOOR(vector_upsert_arrays, sop_vector_upsert_arrays(ctx, h, t.data, t.len, 1, 2, VECTOR, NULL, 0))
DOOR(vector_upsert_payloads, sop_vector_upsert_arrays(ctx, h, TEXT("[\"a\"]"), 1, 2, VECTOR, t.data, t.len))
DOOR(vector_get, sop_vector_get(ctx, h, t.data, t.len, OUT(text)))
DOOR(vector_get_many, sop_vector_get_many(ctx, h, t.data, t.len, OUT(text)))
DOOR(vector_get_arrays,
     sop_vector_get_arrays(ctx, h, t.data, t.len, 1, 2, OUT(text), o->null ? NULL : o->scores))
DOOR(vector_ids, sop_vector_ids(ctx, h, t.data, t.len, OUT(text)))
DOOR(vector_dimension, sop_vector_dimension(ctx, h, OUT(number)))
DOOR(vector_delete, sop_vector_delete(ctx, h, t.data, t.len))
DOOR(vector_count, sop_vector_count(ctx, h, OUT(number)))
DOOR(vector_query, sop_vector_query(ctx, h, t.data, t.len, OUT(text)))
DOOR(vector_query_arrays,
     sop_vector_query_arrays(ctx, h, 1, 2, VECTOR, 4, t.data, t.len, OUT(text), o->null ? NULL : o->scores))
DOOR(vector_optimize, sop_vector_optimize(ctx, h, NULL, NULL))
DOOR(vector_stats, sop_vector_stats(ctx, h, OUT(text)))
DOOR(model_open, sop_model_open(ctx, h, t.data, t.len, OUT(handle)))
DOOR(model_save, sop_model_save(ctx, h, TEXT("hello"), TEXT("hello"), t.data, t.len, OUT(handle)))
DOOR(model_save_category, sop_model_save(ctx, h, t.data, t.len, TEXT("hello"), TEXT("{}"), OUT(handle)))
DOOR(model_save_name, sop_model_save(ctx, h, TEXT("hello"), t.data, t.len, TEXT("{}"), OUT(handle)))
DOOR(model_get, sop_model_get(ctx, h, TEXT("hello"), t.data, t.len, 0, OUT(text)))
DOOR(model_get_category, sop_model_get(ctx, h, t.data, t.len, TEXT("hello"), 1, OUT(text)))
DOOR(model_versions, sop_model_versions(ctx, h, TEXT("hello"), t.data, t.len, OUT(text)))
DOOR(model_active, sop_model_active(ctx, h, TEXT("hello"), t.data, t.len, OUT(handle)))
DOOR(model_promote, sop_model_promote(ctx, h, TEXT("hello"), t.data, t.len, 1))
DOOR(model_delete, sop_model_delete(ctx, h, TEXT("hello"), t.data, t.len, 0))
DOOR(model_delete_category, sop_model_delete(ctx, h, t.data, t.len, TEXT("hello"), 0))
DOOR(model_list, sop_model_list(ctx, h, t.data, t.len, OUT(text)))

enum kind { DATABASE, TRANSACTION, BTREE, VECTOR_STORE, MODEL_STORE, KINDS };
enum syntax { NONE, PLAIN, JSON, OPTIONAL_JSON };

struct door {
    const char *name;
    int32_t (*call)(int64_t, uint64_t, struct text, struct out *);
    enum kind kind;
    enum syntax syntax;
    const char *good;
    int has_out;
    int ends; /* Cannot be called rightly while the others are still to be called. */
};

#define ROW(name, ...) {#name, name, __VA_ARGS__}

static const struct door DOORS[] = {
    ROW(database_close, DATABASE, NONE, "", 0, 1),
    ROW(transaction_begin, DATABASE, NONE, "", 1, 0),
    ROW(transaction_commit, TRANSACTION, NONE, "", 0, 1),
    ROW(transaction_rollback, TRANSACTION, NONE, "", 0, 1),
    ROW(btree_new, TRANSACTION, JSON, "{\"name\": \"new\"}", 1, 0),
    ROW(btree_open, TRANSACTION, PLAIN, "tree", 1, 0),
    ROW(btree_info, BTREE, NONE, "", 1, 0),
    ROW(btree_count, BTREE, NONE, "", 1, 0),
    ROW(btree_write, BTREE, JSON, "[{\"key\": 1, \"value\": 2}]", 1, 0),
    ROW(btree_remove, BTREE, JSON, "[5]", 1, 0),
    ROW(btree_find, BTREE, JSON, "1", 1, 0),
    ROW(btree_find_one, BTREE, JSON, "1", 1, 0),
    ROW(btree_step, BTREE, NONE, "", 1, 0),
    ROW(btree_current, BTREE, NONE, "", 1, 0),
    ROW(btree_update_current, BTREE, JSON, "[null]", 1, 0),
    ROW(btree_page, BTREE, JSON, "{}", 1, 0),
    ROW(btree_values, BTREE, JSON, "[{\"key\": 1}]", 1, 0),
    ROW(btree_range, BTREE, JSON, "{}", 1, 0),
    ROW(btree_remove_current, BTREE, NONE, "", 1, 0),
    ROW(vector_open, TRANSACTION, JSON, "{\"name\": \"v\"}", 1, 0),
    ROW(vector_upsert, VECTOR_STORE, JSON, "[{\"id\": \"a\", \"vector\": [1, 2]}]", 0, 0),
    ROW(vector_upsert_arrays, VECTOR_STORE, JSON, "[\"b\"]", 0, 0),
    ROW(vector_upsert_payloads, VECTOR_STORE, OPTIONAL_JSON, "[{\"x\": 1}]", 0, 0),
    ROW(vector_get, VECTOR_STORE, PLAIN, "a", 1, 0),
    ROW(vector_get_many, VECTOR_STORE, JSON, "[\"a\", \"none\"]", 1, 0),
    ROW(vector_get_arrays, VECTOR_STORE, JSON, "[\"a\"]", 1, 0),
    ROW(vector_ids, VECTOR_STORE, JSON, "{}", 1, 0),
    ROW(vector_dimension, VECTOR_STORE, NONE, "", 1, 0),
    ROW(vector_delete, VECTOR_STORE, JSON, "[\"c\"]", 0, 0),
    ROW(vector_count, VECTOR_STORE, NONE, "", 1, 0),
    ROW(vector_query, VECTOR_STORE, JSON, "{\"vector\": [1, 2]}", 1, 0),
    ROW(vector_query_arrays, VECTOR_STORE, OPTIONAL_JSON, "{}", 1, 0),
    ROW(vector_optimize, VECTOR_STORE, NONE, "", 0, 0),
    ROW(vector_stats, VECTOR_STORE, NONE, "", 1, 0),
    ROW(model_open, TRANSACTION, PLAIN, "m", 1, 0),
    ROW(model_save, MODEL_STORE, JSON, "{}", 1, 0),
    ROW(model_save_category, MODEL_STORE, PLAIN, "c", 1, 0),
    ROW(model_save_name, MODEL_STORE, PLAIN, "n", 1, 0),
    ROW(model_get, MODEL_STORE, PLAIN, "hello", 1, 0),
    ROW(model_get_category, MODEL_STORE, PLAIN, "hello", 1, 0),
    ROW(model_versions, MODEL_STORE, PLAIN, "hello", 1, 0),
    ROW(model_active, MODEL_STORE, PLAIN, "hello", 1, 0),
    ROW(model_promote, MODEL_STORE, PLAIN, "hello", 0, 0),
    ROW(model_delete, MODEL_STORE, PLAIN, "n", 0, 0),
    ROW(model_delete_category, MODEL_STORE, PLAIN, "c", 0, 0),
    ROW(model_list, MODEL_STORE, PLAIN, "hello", 1, 0),
};

#define DOOR_COUNT (sizeof DOORS / sizeof DOORS[0])

static struct out fresh_out(int null)
{
    return (struct out){null, 0, -1, -1, NULL, {7, 7, 7, 7}};
}

static struct text text_of(const char *text)
{
    return (struct text){text, strlen(text)};
}

static void refused(const struct door *door, int64_t ctx, uint64_t handle, struct text text, int null, int32_t wanted,
                    const char *what)
{
    struct out out = fresh_out(null);
    int32_t code = door->call(ctx, handle, text, &out);
    char *error = sop_last_error();
    CHECK(code == wanted, "%s with %s gave %" PRId32 ", not %" PRId32 ": %s", door->name, what, code, wanted,
          error != NULL ? error : "no error");
    CHECK(error != NULL && strstr(error, "\"message\"") != NULL, "%s with %s: no last error", door->name, what);
    CHECK(out.handle == 0 && out.number == -1 && out.flag == -1 && out.text == NULL && out.scores[0] == 7,
          "%s with %s wrote a result", door->name, what);
    freeString(error);
    freeString(out.text);
}

static void wrong_handles(const struct door *door, const uint64_t *live, const uint64_t *stale)
{
    uint64_t wrong[] = {0, 1, 42, UINT64_MAX, INT64_MAX, live[door->kind] + 1000, stale[door->kind]};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        refused(door, 0, wrong[i], text_of(door->good), 0, SOP_ERROR_CODE_INVALID_HANDLE, "a wrong handle");
    }
    for (int kind = 0; kind < KINDS; kind++) {
        /* Vector and model stores open on databases, too. */
        int also = kind == DATABASE && (door->call == vector_open || door->call == model_open);
        if (kind != (int)door->kind && !also) {
            refused(door, 0, live[kind], text_of(door->good), 0, SOP_ERROR_CODE_INVALID_HANDLE, "another kind of handle");
        }
    }
}

static void wrong_texts(const struct door *door, uint64_t handle)
{
    static const char *const BROKEN[] = {"", "{", "[1", "nul", "\"", "[1]]", "{\"a\":}", "\xef\xbb\xbf" "1", "\x01"};
    if (door->syntax == NONE) {
        return;
    }
    refused(door, 0, handle, text_of("\"\xff\xfe\""), 0, SOP_ERROR_CODE_VALIDATION, "invalid UTF-8");
    refused(door, 0, handle, (struct text){"x", SIZE_MAX}, 0, SOP_ERROR_CODE_VALIDATION, "a huge length");
    if (door->syntax != OPTIONAL_JSON) {
        refused(door, 0, handle, (struct text){NULL, 3}, 0, SOP_ERROR_CODE_VALIDATION, "NULL text");
        refused(door, 0, handle, (struct text){NULL, 0}, 0, SOP_ERROR_CODE_VALIDATION, "NULL text of no bytes");
    }
    for (size_t i = 0; door->syntax != PLAIN && i < sizeof BROKEN / sizeof BROKEN[0]; i++) {
        refused(door, 0, handle, text_of(BROKEN[i]), 0, SOP_ERROR_CODE_VALIDATION, BROKEN[i]);
    }
}

static uint64_t open_database(const char *folder)
{
    char options[4096];
    uint64_t database = 0;
    snprintf(options, sizeof options, "{\"storage_path\": \"%s\"}", folder);
    EXPECT(0, sop_database_open(0, TEXT(options), &database));
    return database;
}

static uint64_t begin(uint64_t database, int32_t mode)
{
    uint64_t transaction = 0;
    EXPECT(0, sop_transaction_begin(0, database, mode, 0, &transaction));
    return transaction;
}

static void open_all(const char *folder, uint64_t *handles)
{
    handles[DATABASE] = open_database(folder);
    handles[TRANSACTION] = begin(handles[DATABASE], SOP_TRANSACTION_MODE_FOR_WRITING);
    EXPECT(0, sop_btree_new(0, handles[TRANSACTION], TEXT("{\"name\": \"tree\", \"is_unique\": true}"), &handles[BTREE]));
    EXPECT(0, sop_vector_open(0, handles[TRANSACTION], TEXT("{\"name\": \"vectors\"}"), &handles[VECTOR_STORE]));
    EXPECT(0, sop_model_open(0, handles[TRANSACTION], TEXT("models"), &handles[MODEL_STORE]));
}

static void release_all(const uint64_t *handles)
{
    for (int kind = KINDS - 1; kind >= 0; kind--) {
        sop_handle_release(handles[kind]);
    }
}

static void test_doors(const char *folder)
{
    uint64_t stale[KINDS] = {0}, live[KINDS] = {0};
    open_all(folder, stale);
    release_all(stale);
    release_all(stale); /* Releasing twice is ignored. */
    open_all(folder, live);
    long long cancelled = createContext();
    cancelContext(cancelled);
    for (size_t i = 0; i < DOOR_COUNT; i++) {
        const struct door *door = &DOORS[i];
        struct text good = text_of(door->good);
        wrong_handles(door, live, stale);
        wrong_texts(door, live[door->kind]);
        refused(door, cancelled, live[door->kind], good, 0, SOP_ERROR_CODE_CONTEXT_NOT_FOUND, "a cancelled context");
        refused(door, -1, live[door->kind], good, 0, SOP_ERROR_CODE_CONTEXT_NOT_FOUND, "an unknown context");
        if (door->has_out) {
            refused(door, 0, live[door->kind], good, 1, SOP_ERROR_CODE_VALIDATION, "NULL output");
        }
    }
    for (size_t i = 0; i < DOOR_COUNT; i++) {
        if (!DOORS[i].ends) {
            struct out out = fresh_out(0);
            EXPECT(0, DOORS[i].call(0, live[DOORS[i].kind], text_of(DOORS[i].good), &out));
            CHECK(sop_last_error_code() == 0, "%s fails with the right arguments", DOORS[i].name);
            freeString(out.text);
            sop_handle_release(out.handle);
        }
    }
    EXPECT(0, sop_transaction_commit(0, live[TRANSACTION]));
    EXPECT(SOP_ERROR_CODE_INVALID_STATE, sop_transaction_commit(0, live[TRANSACTION]));
    EXPECT(SOP_ERROR_CODE_INVALID_STATE, sop_transaction_rollback(0, live[TRANSACTION]));
    EXPECT(0, sop_database_close(0, live[DATABASE]));
    EXPECT(0, sop_database_close(0, live[DATABASE]));
    uint64_t transaction = 0;
    EXPECT(SOP_ERROR_CODE_CLOSED, sop_transaction_begin(0, live[DATABASE], 1, 0, &transaction));
    release_all(live);
    CHECK(sop_handle_count() == 0, "%" PRIu64 " handles are left", sop_handle_count());
}

/* ---- Functions without a handle, and numbers out of range ---- */

static void test_numbers(const char *folder)
{
    uint64_t database = open_database(folder), transaction = 0, tree = 0, vectors = 0;
    int32_t flag = -1;
    int64_t number = -1;
    char *text = NULL;
    float scores[4] = {7, 7, 7, 7};
    EXPECT(SOP_ERROR_CODE_VALIDATION, sop_transaction_begin(0, database, 3, 1, &transaction));
    EXPECT(SOP_ERROR_CODE_VALIDATION, sop_transaction_begin(0, database, -1, 1, &transaction));
    EXPECT(0, sop_transaction_begin(0, database, 1, NAN, &transaction));
    EXPECT(0, sop_btree_new(0, transaction, TEXT("{\"name\": \"numbers\"}"), &tree));
    EXPECT(SOP_ERROR_CODE_VALIDATION, sop_btree_write(0, tree, 0, TEXT("[]"), &flag));
    EXPECT(SOP_ERROR_CODE_VALIDATION, sop_btree_write(0, tree, 7, TEXT("[]"), &flag));
    EXPECT(SOP_ERROR_CODE_VALIDATION, sop_btree_step(0, tree, 4, &flag));
    EXPECT(SOP_ERROR_CODE_VALIDATION, sop_btree_step(0, tree, -1, &flag));
    EXPECT(SOP_ERROR_CODE_VALIDATION, sop_btree_find(0, tree, TEXT("1"), "not a uuid", &flag));
    EXPECT(SOP_ERROR_CODE_VALIDATION, sop_btree_find(0, tree, TEXT("1"), "\xff", &flag));
    EXPECT(SOP_ERROR_CODE_VALIDATION, sop_btree_page(0, tree, TEXT("{\"page_size\": -1}"), 1, &text));
    EXPECT(0, sop_btree_write(0, tree, SOP_WRITE_ACTION_ADD, TEXT("[]"), &flag));
    CHECK(flag == 1, "an empty list succeeds");

    EXPECT(0, sop_vector_open(0, transaction, TEXT("{\"name\": \"numbers\"}"), &vectors));
    EXPECT(SOP_ERROR_CODE_VALIDATION, sop_vector_upsert_arrays(0, vectors, TEXT("[\"a\"]"), 1, 2, NULL, NULL, 0));
    EXPECT(SOP_ERROR_CODE_VALIDATION, sop_vector_upsert_arrays(0, vectors, TEXT("[\"a\"]"), SIZE_MAX, 2, VECTOR, NULL, 0));
    EXPECT(SOP_ERROR_CODE_VALIDATION, sop_vector_upsert_arrays(0, vectors, TEXT("[]"), 1, 2, VECTOR, NULL, 0));
    EXPECT(SOP_ERROR_CODE_VALIDATION, sop_vector_upsert_arrays(0, vectors, TEXT("[\"a\"]"), 1, 2, VECTOR, TEXT("[]")));
    const float nan_vector[2] = {1.0f, NAN};
    EXPECT(SOP_ERROR_CODE_VALIDATION, sop_vector_upsert_arrays(0, vectors, TEXT("[\"a\"]"), 1, 2, nan_vector, NULL, 0));
    const char *odd = (const char *)VECTOR + 1;
    EXPECT(SOP_ERROR_CODE_VALIDATION,
           sop_vector_upsert_arrays(0, vectors, TEXT("[\"a\"]"), 1, 1, (const float *)(const void *)odd, NULL, 0));
    EXPECT(0, sop_vector_upsert_arrays(0, vectors, TEXT("[\"a\"]"), 1, 2, VECTOR, TEXT("[{\"x\": 1}]")));
    EXPECT(SOP_ERROR_CODE_DIMENSION_MISMATCH, sop_vector_upsert_arrays(0, vectors, TEXT("[\"b\"]"), 1, 1, VECTOR, NULL, 0));
    EXPECT(SOP_ERROR_CODE_VALIDATION, sop_vector_query_arrays(0, vectors, 1, 2, VECTOR, INT64_MAX, NULL, 0, &text, scores));
    EXPECT(SOP_ERROR_CODE_VALIDATION, sop_vector_query_arrays(0, vectors, 1, 2, VECTOR, 4, NULL, 0, &text, NULL));
    CHECK(text == NULL && scores[0] == 7, "a failed query writes nothing");
    EXPECT(0, sop_vector_query_arrays(0, vectors, 1, 2, VECTOR, 2, NULL, 0, &text, scores));
    CHECK(text != NULL && strcmp(text, "[\"a\",\"\"]") == 0, "ids are %s", text);
    CHECK(scores[0] > 0.99f && isnan(scores[1]) && scores[2] == 7, "scores are %f %f", scores[0], scores[1]);
    freeString(text);
    text = NULL;
    EXPECT(0, sop_vector_query_arrays(0, vectors, 1, 2, VECTOR, -1, NULL, 0, &text, NULL));
    CHECK(text != NULL && strcmp(text, "[]") == 0, "no hits for a negative k: %s", text);
    freeString(text);
    text = NULL;
    EXPECT(0, sop_vector_count(0, vectors, &number));
    CHECK(number == 1, "one vector");

    EXPECT(0, sop_transaction_is_active(transaction, &flag));
    CHECK(flag == 1, "active");
    EXPECT(0, sop_transaction_rollback(0, transaction));
    EXPECT(0, sop_transaction_is_active(transaction, &flag));
    CHECK(flag == 0, "ended");
    EXPECT(SOP_ERROR_CODE_INVALID_STATE, sop_btree_count(0, tree, &number));
    EXPECT(SOP_ERROR_CODE_VALIDATION, sop_transaction_is_active(transaction, NULL));
    EXPECT(SOP_ERROR_CODE_INVALID_HANDLE, sop_transaction_is_active(1, &flag));
    EXPECT(SOP_ERROR_CODE_VALIDATION, sop_handle_uuid(transaction, NULL));
    EXPECT(SOP_ERROR_CODE_INVALID_HANDLE, sop_handle_uuid(0, &text));
    EXPECT(0, sop_handle_uuid(transaction, &text));
    CHECK(strlen(text) == 36, "a UUID: %s", text);
    freeString(text);
    text = NULL;
    EXPECT(SOP_ERROR_CODE_VALIDATION, sop_database_open(0, NULL, 0, &transaction));
    EXPECT(SOP_ERROR_CODE_VALIDATION, sop_database_open(0, TEXT("{}"), &database));
    EXPECT(SOP_ERROR_CODE_VALIDATION, sop_database_open(0, TEXT("{\"storage_path\": \"/x\"}"), NULL));
    EXPECT(SOP_ERROR_CODE_CONTEXT_NOT_FOUND, sop_database_open(-1, TEXT("{\"storage_path\": \"/x\"}"), &transaction));
    EXPECT(SOP_ERROR_CODE_VALIDATION, sop_redis_open(NULL, 0));
    EXPECT(SOP_ERROR_CODE_REDIS, sop_redis_open(TEXT("redis://127.0.0.1:1")));
    EXPECT(SOP_ERROR_CODE_REDIS, sop_redis_open(TEXT("garbage")));
    EXPECT(0, sop_redis_close());
    freeString(NULL);
    sop_handle_release(0);
    sop_handle_release(UINT64_MAX);
    EXPECT(0, sop_database_close(0, database));
    sop_handle_release(tree);
    sop_handle_release(vectors);
    sop_handle_release(transaction);
    sop_handle_release(database);
    CHECK(sop_handle_count() == 0, "%" PRIu64 " handles are left", sop_handle_count());
}

/* ---- Stores that commit by themselves, ranges, reopening ---- */

static void has(char *text, const char *part)
{
    CHECK(text != NULL && strstr(text, part) != NULL, "%s is not in %s", part, text != NULL ? text : "NULL");
    freeString(text);
}

static void test_stores(const char *folder)
{
    uint64_t database = open_database(folder), vectors = 0, models = 0, tree = 0;
    char *text = NULL;
    int32_t flag = -1;
    EXPECT(0, sop_vector_open(0, database, TEXT("{\"name\": \"auto\", \"usage_mode\": 1}"), &vectors));
    EXPECT(0, sop_vector_upsert(0, vectors, TEXT("[{\"id\": \"a\", \"vector\": [1, 0], \"payload\": {\"n\": 1}}]")));
    EXPECT(0, sop_vector_optimize(0, vectors, NULL, NULL));
    uint64_t cell[3] = {0, 0, 0};
    EXPECT(0, sop_database_verify(0, database, sop_progress_to_cell, cell, &text));
    has(text, "\"intact\":true");
    CHECK(cell[0] > 0 && cell[0] == cell[1], "%" PRIu64 " of %" PRIu64 " bytes", cell[0], cell[1]);
    cell[2] = 1;
    EXPECT(SOP_ERROR_CODE_CANCELLED, sop_database_verify(0, database, sop_progress_to_cell, cell, &text));
    EXPECT(0, sop_vector_stats(0, vectors, &text));
    has(text, "\"usage_mode\":1");
    EXPECT(SOP_ERROR_CODE_ITEM_NOT_FOUND, sop_vector_get(0, vectors, TEXT("b"), &text));
    EXPECT(0, sop_vector_get(0, vectors, TEXT("a"), &text));
    has(text, "\"Vector\":[1");
    EXPECT(0, sop_vector_get_many(0, vectors, TEXT("[\"b\", \"a\"]"), &text));
    has(text, "[null,{\"ID\":\"a\",\"Vector\":[1");
    EXPECT(0, sop_vector_ids(0, vectors, TEXT("{\"start\": \"A\", \"limit\": 1}"), &text));
    has(text, "{\"ids\":[\"a\"],\"resume\":\"a\"}");
    int64_t dimension = 0;
    EXPECT(0, sop_vector_dimension(0, vectors, &dimension));
    CHECK(dimension == 2, "%" PRId64 " numbers", dimension);
    float rows[4] = {7, 7, 7, 7};
    EXPECT(0, sop_vector_get_arrays(0, vectors, TEXT("[\"b\", \"a\"]"), 2, 2, &text, rows));
    has(text, "[{\"ID\":\"a\",\"Payload\":{\"n\": 1},\"CentroidID\":0}]");
    CHECK(rows[0] == 1 && rows[1] == 0 && rows[2] == 7, "the row found is %f %f", rows[0], rows[1]);
    EXPECT(SOP_ERROR_CODE_DIMENSION_MISMATCH,
           sop_vector_get_arrays(0, vectors, TEXT("[\"a\"]"), 1, 3, &text, rows));
    EXPECT(SOP_ERROR_CODE_VALIDATION,
           sop_vector_get_arrays(0, vectors, TEXT("[\"a\"]"), 2, 2, &text, rows));
    EXPECT(0, sop_model_open(0, database, TEXT("auto"), &models));
    uint64_t version = 0, upload = 0;
    EXPECT(0, sop_model_save(0, models, TEXT("c"), TEXT("n"), TEXT("{\"id\": 12345678901234567}"), &version));
    CHECK(version == 1, "version %" PRIu64, version);
    EXPECT(SOP_ERROR_CODE_ITEM_NOT_FOUND, sop_model_get(0, models, TEXT("c"), TEXT("z"), 0, &text));
    EXPECT(0, sop_model_upload(0, models, TEXT("c"), TEXT("n"), TEXT("weights"), &upload));
    EXPECT(0, sop_model_upload_write(0, upload, "0123456789", 10));
    EXPECT(0, sop_model_upload_save(0, upload, TEXT("{\"is_active\": true}"), &version));
    CHECK(version == 2, "version %" PRIu64, version);
    EXPECT(SOP_ERROR_CODE_INVALID_STATE, sop_model_upload_write(0, upload, "more", 4));
    sop_handle_release(upload);
    char artifact[8];
    size_t read = 0;
    EXPECT(0, sop_model_read_artifact(0, models, TEXT("c"), TEXT("n"), 0, 4, artifact, sizeof artifact, &read));
    CHECK(read == 6 && memcmp(artifact, "456789", 6) == 0, "%zu bytes", read);
    EXPECT(SOP_ERROR_CODE_ITEM_NOT_FOUND,
           sop_model_read_artifact(0, models, TEXT("c"), TEXT("n"), 1, 0, artifact, sizeof artifact, &read));
    EXPECT(0, sop_model_versions(0, models, TEXT("c"), TEXT("n"), &text));
    has(text, "\"format\":\"weights\"");
    EXPECT(0, sop_model_list(0, models, TEXT("c"), &text));
    has(text, "[\"n\"]");

    uint64_t transaction = begin(database, SOP_TRANSACTION_MODE_FOR_WRITING);
    EXPECT(0, sop_btree_new(0, transaction, TEXT("{\"name\": \"kv\"}"), &tree));
    EXPECT(0, sop_btree_write(0, tree, SOP_WRITE_ACTION_ADD,
                              TEXT("[{\"key\": \"b\", \"value\": null}, {\"key\": 2}, {\"key\": null, \"value\": [1]}]"), &flag));
    CHECK(flag == 1, "added");
    EXPECT(0, sop_transaction_commit(0, transaction));
    sop_handle_release(tree);
    sop_handle_release(transaction);
    EXPECT(0, sop_database_close(0, database));
    sop_handle_release(database);
    EXPECT(SOP_ERROR_CODE_CLOSED, sop_vector_optimize(0, vectors, NULL, NULL));
    sop_handle_release(vectors);
    sop_handle_release(models);

    database = open_database(folder);
    transaction = begin(database, SOP_TRANSACTION_MODE_FOR_READING);
    EXPECT(0, sop_btree_open(0, transaction, TEXT("kv"), &tree));
    EXPECT(0, sop_btree_range(0, tree, TEXT("{\"limit\": 2}"), &text));
    CHECK(text != NULL && strstr(text, "\"resume\":\"") != NULL, "a first batch: %s", text);
    has(text, "{\"items\":[{\"key\":null,\"value\":[1]");
    EXPECT(SOP_ERROR_CODE_READ_ONLY_TRANSACTION, sop_btree_write(0, tree, SOP_WRITE_ACTION_ADD, TEXT("[{\"key\": 1}]"), &flag));
    EXPECT(SOP_ERROR_CODE_STORE_NOT_FOUND, sop_btree_open(0, transaction, TEXT("none"), &vectors));
    EXPECT(0, sop_btree_find_one(0, tree, TEXT("\"zz\""), 0, &text));
    CHECK(text == NULL, "a missing item is NULL");
    EXPECT(0, sop_btree_step(0, tree, SOP_MOVE_LAST, &flag));
    EXPECT(0, sop_btree_current(0, tree, &text));
    has(text, "\"key\":\"b\"");
    EXPECT(0, sop_transaction_commit(0, transaction));
    sop_handle_release(tree);
    sop_handle_release(transaction);
    EXPECT(0, sop_database_close(0, database));
    sop_handle_release(database);
}

/* ---- The functions of 2.0.17 ---- */

/* Takes a result over and says whether it begins like this; NULL stands for NULL. */
static int begins(char *text, const char *start)
{
    int same = (text == NULL) == (start == NULL) && (text == NULL || strncmp(text, start, strlen(start)) == 0);
    if (!same) {
        fprintf(stderr, "got: %s\n", text != NULL ? text : "NULL");
    }
    freeString(text);
    return same;
}

#define BEGINS(start, call) CHECK(begins((call), (start)), "%s does not begin with %s", #call, start)
#define IS_NULL(call) CHECK(begins((call), NULL), "%s is not NULL", #call)

static void test_legacy_garbage(void)
{
    static char *const GARBAGE[] = {NULL, "", "x", "{}", "[]", "null", "\xff\xfe", "{\"transaction_id\": 5}",
                                    "00000000-0000-0000-0000-000000000000"};
    const size_t count = sizeof GARBAGE / sizeof GARBAGE[0];
    char *(*const functions[])(long long, int, const char *, const char *) = {
        manageDatabase, manageVectorDB, manageModelStore, manageBtree, navigateBtree};
    for (size_t f = 0; f < sizeof functions / sizeof functions[0]; f++) {
        for (int action = -1; action <= 18; action++) {
            for (size_t i = 0; i < count; i++) {
                for (size_t j = 0; j < count; j++) {
                    char *text = functions[f](0, action, GARBAGE[i], GARBAGE[j]);
                    CHECK(text != NULL, "function %zu took garbage for action %d", f, action);
                    freeString(text);
                }
            }
        }
    }
    for (size_t i = 0; i < count; i++) {
        for (int action = -1; action <= 18; action++) {
            struct getFromBtree_return got = getFromBtree(0, action, GARBAGE[i], GARBAGE[i]);
            CHECK(got.r0 == NULL && got.r1 != NULL, "getFromBtree took garbage for action %d", action);
            freeString(got.r1);
            char *text = manageTransaction(0, action, GARBAGE[i]);
            CHECK(text != NULL, "manageTransaction took garbage for action %d", action);
            freeString(text);
        }
        struct getBtreeItemCount_return counted = getBtreeItemCount(GARBAGE[i]);
        CHECK(counted.r0 == 0 && counted.r1 != NULL, "getBtreeItemCount took garbage");
        freeString(counted.r1);
        char *unique = isUniqueBtree(GARBAGE[i]);
        CHECK(unique != NULL, "isUniqueBtree took garbage");
        freeString(unique);
        char *redis = openRedisConnection(GARBAGE[i]);
        CHECK(redis != NULL, "openRedisConnection took garbage");
        freeString(redis);
    }
    IS_NULL(closeRedisConnection());
}

static void test_legacy(const char *folder)
{
    char options[4096], meta[512], target[512];
    snprintf(options, sizeof options, "{\"storage_path\": \"%s\", \"db_type\": 0}", folder);
    char *database = manageDatabase(0, SOP_DATABASE_ACTION_NEW, NULL, options);
    CHECK(database != NULL && strlen(database) == 36, "a database's UUID, not %s", database);
    char *transaction = manageDatabase(0, SOP_DATABASE_ACTION_BEGIN_TRANSACTION, database, "1");
    CHECK(transaction != NULL && strlen(transaction) == 36, "a transaction's UUID, not %s", transaction);

    snprintf(options, sizeof options, "{\"name\": \"t\", \"is_unique\": true, \"transaction_id\": \"%s\"}", transaction);
    char *tree = manageBtree(0, SOP_BTREE_ACTION_NEW, options, NULL);
    CHECK(tree != NULL && strlen(tree) == 36, "a B-tree's UUID, not %s", tree);
    snprintf(meta, sizeof meta, "{\"transaction_id\": \"%s\", \"btree_id\": \"%s\"}", transaction, tree);
    const char *items = "{\"items\": [{\"key\": 1, \"value\": \"x\", \"id\": \"00000000-0000-0000-0000-000000000000\"}]}";
    BEGINS("true", manageBtree(0, SOP_BTREE_ACTION_ADD, meta, items));
    BEGINS("false", manageBtree(0, SOP_BTREE_ACTION_ADD, meta, items));
    BEGINS("true", navigateBtree(0, SOP_BTREE_ACTION_FIND, meta, items));
    BEGINS("true", navigateBtree(0, SOP_BTREE_ACTION_FIRST, meta, NULL));
    BEGINS("true", isUniqueBtree(meta));
    struct getFromBtree_return got = getFromBtree(0, SOP_BTREE_ACTION_GET_ITEMS, meta, "{\"page_size\": 5}");
    BEGINS("[{\"key\":1,\"value\":\"x\"", got.r0);
    IS_NULL(got.r1);
    struct getBtreeItemCount_return counted = getBtreeItemCount(meta);
    CHECK(counted.r0 == 1 && counted.r1 == NULL, "one item");

    snprintf(options, sizeof options, "{\"transaction_id\": \"%s\", \"name\": \"v\", \"config\": {\"usage_mode\": 2}}",
             transaction);
    char *vectors = manageVectorDB(0, SOP_VECTOR_ACTION_OPEN_VECTOR_STORE, database, options);
    snprintf(target, sizeof target, "{\"transaction_id\": \"%s\", \"id\": \"%s\"}", transaction, vectors);
    IS_NULL(manageVectorDB(0, SOP_VECTOR_ACTION_UPSERT, target, "{\"id\": \"a\", \"vector\": [1, 2], \"payload\": {}}"));
    BEGINS("{\"ID\":\"a\"", manageVectorDB(0, SOP_VECTOR_ACTION_GET, target, "a"));
    BEGINS("1", manageVectorDB(0, SOP_VECTOR_ACTION_COUNT, target, ""));

    snprintf(options, sizeof options, "{\"transaction_id\": \"%s\", \"path\": \"m\"}", transaction);
    char *models = manageModelStore(0, SOP_MODEL_ACTION_NEW_BTREE_MODEL_STORE, NULL, options);
    snprintf(target, sizeof target, "{\"transaction_id\": \"%s\", \"id\": \"%s\"}", transaction, models);
    IS_NULL(manageModelStore(0, SOP_MODEL_ACTION_SAVE, target, "{\"category\": \"c\", \"name\": \"n\", \"model\": [1]}"));
    BEGINS("[1]", manageModelStore(0, SOP_MODEL_ACTION_LOAD, target, "{\"category\": \"c\", \"name\": \"n\"}"));
    BEGINS("[\"n\"]", manageModelStore(0, SOP_MODEL_ACTION_LIST, target, "c"));

    IS_NULL(manageTransaction(0, SOP_TRANSACTION_ACTION_COMMIT, transaction));
    BEGINS("UUID ", manageTransaction(0, SOP_TRANSACTION_ACTION_COMMIT, transaction));
    BEGINS("UUID ", manageTransaction(0, SOP_TRANSACTION_ACTION_ROLLBACK, transaction));
    counted = getBtreeItemCount(meta);
    CHECK(counted.r1 != NULL && strstr(counted.r1, "has ended") != NULL, "count after commit: %s", counted.r1);
    freeString(counted.r1);
    IS_NULL(manageDatabase(0, SOP_DATABASE_ACTION_CLOSE, database, NULL));
    BEGINS("Database not found", manageDatabase(0, SOP_DATABASE_ACTION_CLOSE, database, NULL));
    CHECK(sop_handle_count() == 0, "%" PRIu64 " handles are left", sop_handle_count());
    freeString(database);
    freeString(transaction);
    freeString(tree);
    freeString(vectors);
    freeString(models);
}

/* ---- Contexts, threads, forks ---- */

static void test_contexts(void)
{
    long long one = createContext(), two = createContext();
    CHECK(one > 0 && two > one, "contexts are counted");
    IS_NULL(contextError(one));
    cancelContext(one);
    cancelContext(one);
    removeContext(two);
    removeContext(two);
    cancelContext(-7);
    BEGINS("context not found", contextError(one));
    BEGINS("context not found", contextError(two));
    BEGINS("context not found", contextError(0));
    BEGINS("context with ID ", manageTransaction(one, 3, "x"));
}

static void *fail_elsewhere(void *result)
{
    *(int32_t *)result = sop_last_error_code();
    sop_database_close(-1, 1);
    return NULL;
}

static void test_threads(void)
{
    int32_t before = -1;
    pthread_t thread;
    EXPECT(SOP_ERROR_CODE_INVALID_HANDLE, sop_database_close(0, 1));
    pthread_create(&thread, NULL, fail_elsewhere, &before);
    pthread_join(thread, NULL);
    CHECK(before == 0, "a new thread has no error");
    CHECK(sop_last_error_code() == SOP_ERROR_CODE_INVALID_HANDLE, "another thread's error is its own");
}

static void test_fork(const char *folder)
{
    uint64_t database = open_database(folder);
    pid_t child = fork();
    if (child == 0) {
        int wrong = sop_database_close(0, database) != SOP_ERROR_CODE_FORKED || sop_handle_count() != 0;
        _exit(wrong);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0, "the child ended with %d", status);
    EXPECT(0, sop_database_close(0, database));
    sop_handle_release(database);
}

int main(int argc, char **argv)
{
    char folder[1024];
    const char *parent = argc > 1 ? argv[1] : "/tmp/sop_abi_test";
    char version[64];
    snprintf(version, sizeof version, "%d.%d.%d", SOP_VERSION_MAJOR, SOP_VERSION_MINOR, SOP_VERSION_PATCH);
    CHECK(strcmp(version, sop_version()) == 0, "header %s, library %s", version, sop_version());
    CHECK(sop_last_error() == NULL && sop_last_error_code() == 0, "an error before any call");

#define IN(name) (snprintf(folder, sizeof folder, "%s-%s", parent, name), folder)
    test_contexts();
    test_threads();
    test_doors(IN("doors"));
    test_numbers(IN("numbers"));
    test_stores(IN("stores"));
    test_legacy_garbage();
    test_legacy(IN("legacy"));
    test_fork(IN("fork"));
    printf("abi_test: %d failures\n", failures);
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
