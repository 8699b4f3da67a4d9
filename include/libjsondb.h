/*
 * libjsondb: transactional B-tree, vector and model stores in one folder.
 *
 * Generated from libjsondb/src by scripts/header. Do not edit.
 *
 * Functions that begin with sop_ return 0 or an SopErrorCode; sop_last_error() has the message of the calling thread's last
 * call. Outputs (`out`) are written on success only. Texts are UTF-8. Text that goes in is a pointer and a length, with no
 * zero byte at its end needed; text that comes out ends with a zero byte and is freed with freeString.
 *
 * ctx is a context from createContext, or 0 for none. Databases, transactions and stores are handles, which are never 0. A
 * handle that was released, or never given out, is an error wherever it is used, never a crash; giving it back again is
 * ignored. Stores belong to their transaction: release them in any order.
 *
 * Every function may be called from every thread, also on one handle: calls on one transaction run one after the other.
 * After a fork the child cannot use the parent's handles (SOP_ERROR_CODE_FORKED); it opens the database again.
 *
 * Functions without sop_ are those of sop4py 2.0.17: text ends with a zero byte, objects are named by UUID text, and an
 * error's text comes in the place of a result. sop_last_error() tells more about it, too.
 */

#ifndef LIBJSONDB_H
#define LIBJSONDB_H

#include <stddef.h>
#include <stdint.h>


// Changes when callers must change.
#define SOP_VERSION_MAJOR 3

// Changes when functions are added.
#define SOP_VERSION_MINOR 0

// Changes when defects are removed.
#define SOP_VERSION_PATCH 0

// What a function of this library returns, by what the caller has to do about it. New codes may appear between these.
typedef enum SopErrorCode {
  // Success.
  SOP_ERROR_CODE_OK = 0,
  // Another transaction committed first to what this one read or wrote. Nothing was stored; run it again.
  SOP_ERROR_CODE_CONFLICT = 10,
  // The transaction's snapshot is too old. Nothing was stored; run it again.
  SOP_ERROR_CODE_SNAPSHOT_TOO_OLD = 11,
  // The transaction's time limit passed. Nothing was stored; run it again.
  SOP_ERROR_CODE_TIMEOUT = 12,
  // The call's context was cancelled.
  SOP_ERROR_CODE_CANCELLED = 13,
  // Another process holds a lock for too long; run it again.
  SOP_ERROR_CODE_LOCKED = 14,
  // The transaction was already committed or rolled back.
  SOP_ERROR_CODE_INVALID_STATE = 20,
  // A write in a transaction that only reads.
  SOP_ERROR_CODE_READ_ONLY_TRANSACTION = 21,
  // There is no store of this name.
  SOP_ERROR_CODE_STORE_NOT_FOUND = 30,
  // There is no vector or model of this name.
  SOP_ERROR_CODE_ITEM_NOT_FOUND = 31,
  // A store of this name exists with other options.
  SOP_ERROR_CODE_STORE_EXISTS = 32,
  // An argument is wrong: outside its limits, a null pointer, not UTF-8, not the JSON that was expected.
  SOP_ERROR_CODE_VALIDATION = 40,
  // A vector of another dimension than the store's.
  SOP_ERROR_CODE_DIMENSION_MISMATCH = 41,
  // A filter that cannot be applied.
  SOP_ERROR_CODE_FILTER = 42,
  // The operating system refused a file operation.
  SOP_ERROR_CODE_IO = 50,
  // Bytes read from disk are not the bytes once written there.
  SOP_ERROR_CODE_CORRUPTION = 51,
  // The disk is full. Nothing was stored.
  SOP_ERROR_CODE_DISK_FULL = 52,
  // The folder cannot be written.
  SOP_ERROR_CODE_READ_ONLY_FOLDER = 53,
  // More drives or copies are lost than the redundancy tolerates. Nothing was stored.
  SOP_ERROR_CODE_DRIVES_LOST = 54,
  // The database was closed; open it again.
  SOP_ERROR_CODE_CLOSED = 60,
  // The handle was made in another process, before a fork; open the database again.
  SOP_ERROR_CODE_FORKED = 61,
  // The handle is none, of another kind, or was released.
  SOP_ERROR_CODE_INVALID_HANDLE = 62,
  // The context was cancelled or removed before the call, or never made.
  SOP_ERROR_CODE_CONTEXT_NOT_FOUND = 63,
  // Not available in this version.
  SOP_ERROR_CODE_UNSUPPORTED = 70,
  // Redis cannot be reached or answered with an error.
  SOP_ERROR_CODE_REDIS = 71,
  // A defect of this library, met and contained.
  SOP_ERROR_CODE_INTERNAL = 80,
  // A defect of this library: a panic, contained at the boundary.
  SOP_ERROR_CODE_PANIC = 90,
} SopErrorCode;

// What a transaction may do.
typedef enum SopTransactionMode {
  // Reads one snapshot.
  SOP_TRANSACTION_MODE_NO_CHECK = 0,
  // Reads one snapshot and writes; what was read is validated at commit.
  SOP_TRANSACTION_MODE_FOR_WRITING = 1,
  // Reads one snapshot.
  SOP_TRANSACTION_MODE_FOR_READING = 2,
} SopTransactionMode;

// When a commit returns. It is whole, and visible to all processes, whichever it is.
typedef enum SopDurability {
  // Once it is on disk: it survives a power cut.
  SOP_DURABILITY_FULL = 0,
  // Once it is with the operating system: it survives the end of every process, kill -9 too. A power cut may take it,
  // and what was committed after it; sop_database_flush, and the next full commit, make it durable.
  SOP_DURABILITY_RELAXED = 1,
} SopDurability;

// What sop_btree_write does with its items.
typedef enum SopWriteAction {
  // Adds an item; in a unique store not when the key is there.
  SOP_WRITE_ACTION_ADD = 3,
  // Adds an item, not when the key is there.
  SOP_WRITE_ACTION_ADD_IF_NOT_EXISTS = 4,
  // Changes the value of a key that is there.
  SOP_WRITE_ACTION_UPDATE = 5,
  // Adds an item, or changes the value of a key that is there.
  SOP_WRITE_ACTION_UPSERT = 6,
} SopWriteAction;

// Where sop_btree_step moves the cursor.
typedef enum SopMove {
  // To the first item.
  SOP_MOVE_FIRST = 0,
  // To the last item.
  SOP_MOVE_LAST = 1,
  // To the next item in key order.
  SOP_MOVE_NEXT = 2,
  // To the item before in key order.
  SOP_MOVE_PREVIOUS = 3,
} SopMove;

// Actions of manageTransaction.
typedef enum SopTransactionAction {
  // Not supported any more: its error says what to use.
  SOP_TRANSACTION_ACTION_NEW = 1,
  // Not supported any more: its error says what to use.
  SOP_TRANSACTION_ACTION_BEGIN = 2,
  // Commit.
  SOP_TRANSACTION_ACTION_COMMIT = 3,
  // Roll back.
  SOP_TRANSACTION_ACTION_ROLLBACK = 4,
} SopTransactionAction;

// Actions of manageDatabase.
typedef enum SopDatabaseAction {
  // Opens a database.
  SOP_DATABASE_ACTION_NEW = 1,
  // Begins a transaction.
  SOP_DATABASE_ACTION_BEGIN_TRANSACTION = 2,
  // Closes a database.
  SOP_DATABASE_ACTION_CLOSE = 3,
} SopDatabaseAction;

// Actions of manageBtree (1 to 7), navigateBtree (8, 9, 13, 14) and getFromBtree (10 to 12, 17); isUniqueBtree (15) and
// getBtreeItemCount (16) are functions of their own.
typedef enum SopBtreeAction {
  // Creates a B-tree, or opens it when it exists with equal options.
  SOP_BTREE_ACTION_NEW = 1,
  // Opens a B-tree.
  SOP_BTREE_ACTION_OPEN = 2,
  // Adds items.
  SOP_BTREE_ACTION_ADD = 3,
  // Adds items whose keys are not there.
  SOP_BTREE_ACTION_ADD_IF_NOT_EXIST = 4,
  // Changes values.
  SOP_BTREE_ACTION_UPDATE = 5,
  // Adds items or changes values.
  SOP_BTREE_ACTION_UPSERT = 6,
  // Removes items by key.
  SOP_BTREE_ACTION_REMOVE = 7,
  // Moves the cursor to a key.
  SOP_BTREE_ACTION_FIND = 8,
  // Moves the cursor to a key and item id.
  SOP_BTREE_ACTION_FIND_WITH_ID = 9,
  // Reads a page of items.
  SOP_BTREE_ACTION_GET_ITEMS = 10,
  // Looks up values by key.
  SOP_BTREE_ACTION_GET_VALUES = 11,
  // Reads a page of keys.
  SOP_BTREE_ACTION_GET_KEYS = 12,
  // Moves the cursor to the first item.
  SOP_BTREE_ACTION_FIRST = 13,
  // Moves the cursor to the last item.
  SOP_BTREE_ACTION_LAST = 14,
  // Whether keys are unique.
  SOP_BTREE_ACTION_IS_UNIQUE = 15,
  // Number of items.
  SOP_BTREE_ACTION_COUNT = 16,
  // The options it was created with.
  SOP_BTREE_ACTION_GET_STORE_INFO = 17,
} SopBtreeAction;

// Actions of manageVectorDB.
typedef enum SopVectorAction {
  // Opens a database.
  SOP_VECTOR_ACTION_NEW_VECTOR_DB = 1,
  // Opens a vector store in a transaction.
  SOP_VECTOR_ACTION_OPEN_VECTOR_STORE = 2,
  // Adds or replaces an item.
  SOP_VECTOR_ACTION_UPSERT = 3,
  // Adds or replaces items.
  SOP_VECTOR_ACTION_UPSERT_BATCH = 4,
  // Reads an item.
  SOP_VECTOR_ACTION_GET = 5,
  // Removes an item.
  SOP_VECTOR_ACTION_DELETE = 6,
  // Searches.
  SOP_VECTOR_ACTION_QUERY = 7,
  // Number of items.
  SOP_VECTOR_ACTION_COUNT = 8,
  // Begins a transaction.
  SOP_VECTOR_ACTION_BEGIN_TRANSACTION = 9,
  // Rebuilds the clustering.
  SOP_VECTOR_ACTION_OPTIMIZE = 10,
  // Closes a database.
  SOP_VECTOR_ACTION_CLOSE_VECTOR_DB = 11,
} SopVectorAction;

// Actions of manageModelStore.
typedef enum SopModelAction {
  // Opens a model store in a transaction.
  SOP_MODEL_ACTION_NEW_BTREE_MODEL_STORE = 1,
  // Opens a database.
  SOP_MODEL_ACTION_NEW_MODEL_DB = 2,
  // Not supported: its error says what to use.
  SOP_MODEL_ACTION_OPEN_MODEL_STORE = 3,
  // Saves a model.
  SOP_MODEL_ACTION_SAVE = 4,
  // Reads a model.
  SOP_MODEL_ACTION_LOAD = 5,
  // Names of a category's models.
  SOP_MODEL_ACTION_LIST = 6,
  // Removes a model.
  SOP_MODEL_ACTION_DELETE = 7,
  // Closes a database.
  SOP_MODEL_ACTION_CLOSE_MODEL_DB = 8,
} SopModelAction;

// Told by a long call how far it is: bytes done, and bytes to do in all, an estimate that may grow. Not 0: the call is to stop, and
// ends with SOP_ERROR_CODE_CANCELLED. Called on the thread of the call; it may call any function of this library.
typedef int32_t (*SopProgress)(void *user_data, uint64_t bytes_done, uint64_t bytes_total);

// Result of getFromBtree.
typedef struct getFromBtree_return {
  // The result, JSON, or NULL.
  char *r0;
  // The text of an error, or NULL.
  char *r1;
} getFromBtree_return;

// Result of getBtreeItemCount.
typedef struct getBtreeItemCount_return {
  // The count.
  long long r0;
  // The text of an error, or NULL.
  char *r1;
} getBtreeItemCount_return;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Version of the library, "major.minor.patch". Not to be freed.
const char *sop_version(void);

// Code of this thread's last call: 0 when it succeeded. Functions without an error leave it as it is: those that return
// nothing, sop_version, sop_handle_count, createContext, contextError and the two sop_last_error functions.
int32_t sop_last_error_code(void);

// Error of this thread's last call, NULL when it succeeded:
// {"code":10,"name":"Conflict","message":"...","retryable":true,"details":{...}}. Free it with freeString.
char *sop_last_error(void);

// Frees a text that this library handed out. NULL is ignored.
void freeString(char *text);

// Makes a context: an id to pass to calls, so that another thread can cancel them. Remove it with removeContext.
// Every function that takes a context also takes 0, which is none: such a call is never cancelled.
long long createContext(void);

// Cancels a context: its running calls end with SOP_ERROR_CODE_CANCELLED, later calls with it fail with
// SOP_ERROR_CODE_CONTEXT_NOT_FOUND. An unknown id is ignored.
void cancelContext(long long ctx);

// Forgets a context without disturbing its running calls. An unknown id is ignored.
void removeContext(long long ctx);

// NULL while the context is valid, else the text "context not found". Free it with freeString.
char *contextError(long long ctx);

// Opens a database; the folder itself is opened by the first transaction. Options (JSON): "storage_path" or
// "stores_folders" (the folder, then those that mirror it), "erasure_config" ({"store or empty for all others":
// {"data_shards_count":2,"parity_shards_count":1,"base_folder_paths_across_drives":["...","...","..."],
// "repair_corrupted_shards":true}}), "db_type" (0 Standalone, 1 Clustered), "registry_hash_mod", "memory_limit" (bytes), "read_only"
// (true: what is there is read, as it was opened last, and nothing is written to its folders); for tools
// "as_found" (true: as it was opened last), "drives" (folders of erasure coding in any order, whose own files say what they are).
// Release the handle with sop_handle_release.
int32_t sop_database_open(int64_t ctx,
                          const char *options,
                          size_t options_len,
                          uint64_t *out);

// Closes a database: waits for its background work, then transactions still open on it fail with
// SOP_ERROR_CODE_CLOSED, unless another database handle of this process uses the same folder. Closing twice is no
// error. The handle stays until it is released.
int32_t sop_database_close(int64_t ctx, uint64_t database);

// Makes every relaxed commit durable that was acknowledged before this call (see sop_transaction_set_durability).
int32_t sop_database_flush(int64_t ctx, uint64_t database);

// Gives a handle of any kind back. A transaction that is neither committed nor rolled back is rolled back, after a
// call that is running on it; a database is not closed. 0 and handles released before are ignored.
void sop_handle_release(uint64_t handle);

// Number of handles that are open in this process, those that the functions of 2.0.17 name by UUID included.
uint64_t sop_handle_count(void);

// The UUID text by which the functions of 2.0.17 name the object of a handle. Free it with freeString.
int32_t sop_handle_uuid(uint64_t handle, char **out);

// A progress function for those that cannot be called from a thread of this library: give it as progress, and as user_data the address of
// three uint64_t, 0 at first: bytes done, bytes to do in all, and one that stops the call once it is not 0. They stay where they are
// until the call ends, and are read and written as a whole.
int32_t sop_progress_to_cell(void *user_data,
                             uint64_t bytes_done,
                             uint64_t bytes_total);

// Checks all that is stored in a database without changing anything, and goes on after a finding. Others may use it meanwhile; it is not opened.
// Writes {"intact":true,"findings":[{"file":"...","offset":0,"what":"..."}],"stores":[...],"entries":0,"pages":0,"values":0,
// "bytes":0,"log":{...}}. Damage is no error of this function. progress may be NULL. Free the text with freeString.
int32_t sop_database_verify(int64_t ctx,
                            uint64_t database,
                            SopProgress progress,
                            void *user_data,
                            char **out);

// Writes what a database takes on disk, its newest transaction, and how many processes have it open, as JSON. Free it with
// freeString.
int32_t sop_database_info(int64_t ctx,
                          uint64_t database,
                          char **out);

// Writes the stores of a database: [{"name":"...","kind":"btree","items":0,"options":{...}}]; kind is btree, vector or model. Free
// it with freeString.
int32_t sop_database_stores(int64_t ctx,
                            uint64_t database,
                            char **out);

// Copies the newest committed state to a folder that is missing or empty, while others read and write. The copy is durable and a
// database of its own; when this fails or is interrupted, the target is none. verify: 0, or 1 to read the copy back and check
// it. progress may be NULL. Writes {"sequence":0,"files":0,"bytes":0,"verified":true}. Free it with freeString.
int32_t sop_database_backup(int64_t ctx,
                            uint64_t database,
                            const char *target,
                            size_t target_len,
                            int32_t verify,
                            SopProgress progress,
                            void *user_data,
                            char **out);

// Moves what is live out of files that are mostly garbage and removes what nobody needs, while others read and write. progress may
// be NULL. Writes {"before":{...},"after":{...},"checkpoints":0}. Free it with freeString.
int32_t sop_database_compact(int64_t ctx,
                             uint64_t database,
                             SopProgress progress,
                             void *user_data,
                             char **out);

// Writes which copies and drives of a database with mirrored folders or erasure coding are there:
// {"healthy":true,"copies":[{"index":0,"role":"...","path":"...","state":"current","sequence":0}],"sets":[{"name":"","data":2,
// "parity":1,"segments":0,"spare":[0,0],"lost":0,"drives":[{"index":0,"path":"...","state":"ok","missing":0,"bytes":0}]}]}. Names are
// looked at, not contents. Free the text with freeString.
int32_t sop_database_status(int64_t ctx,
                            uint64_t database,
                            char **out);

// Reads every shard and every copy, and changes nothing. Damage is no error of this function. progress may be NULL. Writes
// {"intact":true,"findings":[{"file":"...","offset":0,"what":"..."}],"shards":0,"bytes":0}. Free the text with freeString.
int32_t sop_database_scrub(int64_t ctx,
                           uint64_t database,
                           SopProgress progress,
                           void *user_data,
                           char **out);

// Rebuilds what is missing or damaged on drives and in copies, while others read and write; it may be stopped and run again.
// missing_only: 0, or 1 not to read shards that are there. progress may be NULL. Writes
// {"rebuilt":0,"bytes":0,"seconds":0.0,"copies":[],"failed":[{"file":"...","offset":0,"what":"..."}]}. Free the text with freeString.
int32_t sop_database_repair(int64_t ctx,
                            uint64_t database,
                            int32_t missing_only,
                            SopProgress progress,
                            void *user_data,
                            char **out);

// Brings copies that are stale or were replaced up to date, and back among those that count, while others read and write. options
// (JSON): {"lost":[0]} names copies that will not come back, by the index of sop_database_status: what only they hold is given
// up. progress may be NULL. Writes the new status, as sop_database_status. Free the text with freeString.
int32_t sop_database_reinstate(int64_t ctx,
                               uint64_t database,
                               const char *options,
                               size_t options_len,
                               SopProgress progress,
                               void *user_data,
                               char **out);

// Begins a transaction. Mode: SopTransactionMode. max_time_minutes bounds it: 0 or less means 15, more than 60 means 60.
// Release the handle with sop_handle_release, after commit or rollback or instead of a rollback.
int32_t sop_transaction_begin(int64_t ctx,
                              uint64_t database,
                              int32_t mode,
                              double max_time_minutes,
                              uint64_t *out);

// Says when the transaction's commit returns: SopDurability. Without this call: full.
int32_t sop_transaction_set_durability(uint64_t transaction, int32_t durability);

// Commits: everything written becomes durable and visible at once, or nothing. Either way the transaction is over.
int32_t sop_transaction_commit(int64_t ctx, uint64_t transaction);

// Rolls back: nothing of what was written is stored.
int32_t sop_transaction_rollback(int64_t ctx, uint64_t transaction);

// Writes 1 while the transaction is neither committed nor rolled back, else 0: an I/O error in any call rolls back.
int32_t sop_transaction_is_active(uint64_t transaction, int32_t *out);

// Creates a B-tree, or opens it when it exists with equal options; other options: SOP_ERROR_CODE_STORE_EXISTS.
// Options (JSON): "name", "is_unique", "slot_length", "description", "is_primitive_key", "index_specification" and the
// further fields of BtreeOptions in the Python package.
int32_t sop_btree_new(int64_t ctx, uint64_t transaction, const char *options, size_t options_len, uint64_t *out);

// Opens a B-tree; missing: SOP_ERROR_CODE_STORE_NOT_FOUND.
int32_t sop_btree_open(int64_t ctx, uint64_t transaction, const char *name, size_t name_len, uint64_t *out);

// Writes the options the B-tree was created with, as JSON.
int32_t sop_btree_info(int64_t ctx, uint64_t btree, char **out);

// Writes the number of items.
int32_t sop_btree_count(int64_t ctx, uint64_t btree, int64_t *out);

// Adds, updates or upserts items, a JSON array of {"key":..,"value":..,"id":".."} (value and id may be left out).
// Action: SopWriteAction. All items are tried; writes 1 if all succeeded, 0 if some key was there already (add) or was
// missing (update).
int32_t sop_btree_write(int64_t ctx, uint64_t btree, int32_t action, const char *items, size_t items_len, int32_t *out);

// Removes items by key, a JSON array of keys. All are tried; writes 1 if all were there.
int32_t sop_btree_remove(int64_t ctx, uint64_t btree, const char *keys, size_t keys_len, int32_t *out);

// Moves the cursor to a key (JSON), and to the item with this id among its duplicates when an id (a UUID, ending with a
// zero byte) is given. Writes 1 if found; else 0, and the cursor is on the next greater key, or else on the last.
int32_t sop_btree_find(int64_t ctx, uint64_t btree, const char *key, size_t key_len, const char *id, int32_t *out);

// Moves the cursor to a key (JSON) and writes its item, or NULL when there is none. Of duplicates it is the newest,
// whatever first_only says: that parameter is there for callers who pass it.
int32_t sop_btree_find_one(int64_t ctx,
                           uint64_t btree,
                           const char *key,
                           size_t key_len,
                           int32_t first_only,
                           char **out);

// Moves the cursor: SopMove. Writes 1 if it is on an item now, 0 if there is none in that direction. Without a current
// item, next is the first and previous the last.
int32_t sop_btree_step(int64_t ctx, uint64_t btree, int32_t step, int32_t *out);

// Writes the item at the cursor, or NULL when the cursor is on none.
int32_t sop_btree_current(int64_t ctx, uint64_t btree, char **out);

// Sets the value (JSON) of the item at the cursor. Writes 1, or 0 when the cursor is on none.
int32_t sop_btree_update_current(int64_t ctx, uint64_t btree, const char *value, size_t value_len, int32_t *out);

// Removes the item at the cursor. Writes 1, or 0 when the cursor is on none.
int32_t sop_btree_remove_current(int64_t ctx, uint64_t btree, int32_t *out);

// Writes a page of items from the cursor on, as a JSON array, and moves the cursor behind it; after the last item pages
// are empty until the cursor is moved. Paging (JSON): "page_offset" (pages to skip), "page_size" (20), "fetch_count" (0:
// page_size), "direction" (0 forward, 1 backward). With with_values 0 all values are null.
int32_t sop_btree_page(int64_t ctx,
                       uint64_t btree,
                       const char *paging,
                       size_t paging_len,
                       int32_t with_values,
                       char **out);

// Looks items up by key, and by id where one is given: items as for sop_btree_write. Writes them with their values as a
// JSON array in the same order; a missing one has the value null.
int32_t sop_btree_values(int64_t ctx, uint64_t btree, const char *items, size_t items_len, char **out);

// Reads a range of keys in batches, without the cursor. Query (JSON): "start" (inclusive) and "stop" (exclusive), keys,
// left out or null when open; "reverse"; "limit" (1000) and "with_values" (true); "resume", as the batch before gave it. Writes
// {"items":[..],"resume":".."}. A batch may be shorter than the limit; after the last one resume is null.
int32_t sop_btree_range(int64_t ctx,
                        uint64_t btree,
                        const char *query,
                        size_t query_len,
                        char **out);

// As sop_btree_write, of `count` keys and values given as columns: their JSON texts one after the other, and the length of each.
int32_t sop_btree_put_columns(int64_t ctx,
                              uint64_t btree,
                              int32_t action,
                              size_t count,
                              const char *keys,
                              size_t keys_len,
                              const uint32_t *key_lens,
                              const char *values,
                              size_t values_len,
                              const uint32_t *value_lens,
                              int32_t *out);

// Looks up `count` keys, a column as for sop_btree_put_columns. Writes the JSON texts of their values one after the other, and into
// value_lens, which has room for `count`, the length of each: UINT32_MAX for a key that is not there.
int32_t sop_btree_get_columns(int64_t ctx,
                              uint64_t btree,
                              size_t count,
                              const char *keys,
                              size_t keys_len,
                              const uint32_t *key_lens,
                              uint32_t *value_lens,
                              char **out);

// Opens a vector store, creating it with its first vector. With a database handle each call commits by itself; with a
// transaction handle calls run inside it. Options (JSON): "name", "usage_mode" (0 BuildOnceQueryMany,
// 1 DynamicWithVectorCountTracking, 2 Dynamic), "metric" (0 cosine, 1 dot product, 2 L2; a store keeps the one it is made with,
// calls with another fail), "content_size".
int32_t sop_vector_open(int64_t ctx,
                        uint64_t database_or_transaction,
                        const char *options,
                        size_t options_len,
                        uint64_t *out);

// Adds or replaces items, a JSON array of {"id":"..","vector":[..],"payload":..,"centroid_id":0}. All or none.
int32_t sop_vector_upsert(int64_t ctx, uint64_t store, const char *items, size_t items_len);

// As sop_vector_upsert, for `count` vectors of `dimension` floats, one after the other. Ids: a JSON array of `count`
// texts. Payloads: a JSON array of `count` values, or NULL.
int32_t sop_vector_upsert_arrays(int64_t ctx,
                                 uint64_t store,
                                 const char *ids,
                                 size_t ids_len,
                                 size_t count,
                                 size_t dimension,
                                 const float *vectors,
                                 const char *payloads,
                                 size_t payloads_len);

// Writes an item as JSON, {"ID":"..","Vector":[..],"Payload":..,"CentroidID":0}; missing: SOP_ERROR_CODE_ITEM_NOT_FOUND.
int32_t sop_vector_get(int64_t ctx,
                       uint64_t store,
                       const char *id,
                       size_t id_len,
                       char **out);

// Writes the items of ids, a JSON array of texts, as a JSON array in their order: as for sop_vector_get, null for one that is missing.
int32_t sop_vector_get_many(int64_t ctx,
                            uint64_t store,
                            const char *ids,
                            size_t ids_len,
                            char **out);

// As sop_vector_get_many, of `count` ids. Writes those items that are there, without "Vector", and their vectors of `dimension` floats, one after
// the other, to `out_vectors`, which the caller owns and has room for `count`. See sop_vector_dimension.
int32_t sop_vector_get_arrays(int64_t ctx,
                              uint64_t store,
                              const char *ids,
                              size_t ids_len,
                              size_t count,
                              size_t dimension,
                              char **out_items,
                              float *out_vectors);

// Reads the ids in order of their bytes, in batches. Range (JSON): "start" (inclusive), "stop" (exclusive), left out or null when open; "limit"
// (1000); "resume", as the batch before gave it. Writes {"ids":[..],"resume":".."}; after the last one resume is null.
int32_t sop_vector_ids(int64_t ctx,
                       uint64_t store,
                       const char *range,
                       size_t range_len,
                       char **out);

// Writes the number of floats per vector; 0 before the first one.
int32_t sop_vector_dimension(int64_t ctx, uint64_t store, int64_t *out);

// Removes items by id, a JSON array of texts. Unknown ids are ignored.
int32_t sop_vector_delete(int64_t ctx, uint64_t store, const char *ids, size_t ids_len);

// Writes the number of items.
int32_t sop_vector_count(int64_t ctx, uint64_t store, int64_t *out);

// Writes the items most similar to a vector as a JSON array of {"ID":"..","Score":..,"Payload":..}, best first. A greater score is
// better: cosine, dot product, or the negative L2 distance. Options (JSON): "vector", "k" (10), "filter" (an object: payload fields and
// their values, or operators: $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists; $and, $or, $not), "target_recall" (0.95), "nprobe"
// (clusters to look into), "exact", "centroid_ids".
int32_t sop_vector_query(int64_t ctx,
                         uint64_t store,
                         const char *options,
                         size_t options_len,
                         char **out);

// Searches for `count` vectors of `dimension` floats at once. Options (JSON) or NULL: "filter", "target_recall", "nprobe", "exact",
// "centroid_ids", as for sop_vector_query, and "threads". Writes count * k ids (k less than 0 is 0) as a JSON array, row by row, "" where fewer than k items match, and as many scores to
// `out_scores`, which the caller owns; NaN where there is no id.
int32_t sop_vector_query_arrays(int64_t ctx,
                                uint64_t store,
                                size_t count,
                                size_t dimension,
                                const float *queries,
                                int64_t k,
                                const char *options,
                                size_t options_len,
                                char **out_ids,
                                float *out_scores);

// Rebuilds the clustering. Pending writes of the transaction are committed; it stays usable. Readers and writers go on. progress, which
// may be NULL.
int32_t sop_vector_optimize(int64_t ctx,
                            uint64_t store,
                            SopProgress progress,
                            void *user_data);

// Writes how the items spread over the clusters, as JSON: {"count":..,"centroids":[{"id":..,"count":..,
// "explicit":..}],"skew":..,"usage_mode":..,"dimension":..}.
int32_t sop_vector_stats(int64_t ctx, uint64_t store, char **out);

// Opens a model store, creating it with its first model. With a database handle each call commits by itself; with a
// transaction handle calls run inside it.
int32_t sop_model_open(int64_t ctx, uint64_t database_or_transaction, const char *name, size_t name_len, uint64_t *out);

// Saves a model (JSON) as a new version of its category and name, and writes the version: from 1, rising. If it is an object whose field
// is_active is true it becomes the active version.
int32_t sop_model_save(int64_t ctx,
                       uint64_t store,
                       const char *category,
                       size_t category_len,
                       const char *name,
                       size_t name_len,
                       const char *model,
                       size_t model_len,
                       uint64_t *version);

// Writes a version (0: the newest one) of a model: {"version":1,"saved_at":0,"is_active":false,"metrics":{},"sha256":"...",
// "artifact":{"bytes":0,"sha256":"...","format":"..."},"model":...}; saved_at in milliseconds since 1970, metrics and artifact null if there
// are none, the model as it was saved but for its field is_active, which says what is so now. Missing:
// SOP_ERROR_CODE_ITEM_NOT_FOUND. Free the text with freeString.
int32_t sop_model_get(int64_t ctx,
                      uint64_t store,
                      const char *category,
                      size_t category_len,
                      const char *name,
                      size_t name_len,
                      uint64_t version,
                      char **out);

// Writes all versions of a model, the oldest first, as a JSON array of what sop_model_get writes, without the models. Free it with freeString.
int32_t sop_model_versions(int64_t ctx,
                           uint64_t store,
                           const char *category,
                           size_t category_len,
                           const char *name,
                           size_t name_len,
                           char **out);

// Writes the active version of a model, 0 if none is. No such model: SOP_ERROR_CODE_ITEM_NOT_FOUND.
int32_t sop_model_active(int64_t ctx,
                         uint64_t store,
                         const char *category,
                         size_t category_len,
                         const char *name,
                         size_t name_len,
                         uint64_t *version);

// Makes a version of a model the active one, and all others not; 0: none is active then. No such version: SOP_ERROR_CODE_ITEM_NOT_FOUND.
int32_t sop_model_promote(int64_t ctx,
                          uint64_t store,
                          const char *category,
                          size_t category_len,
                          const char *name,
                          size_t name_len,
                          uint64_t version);

// Removes a version (0: all) of a model with its artefact. A missing one is ignored.
int32_t sop_model_delete(int64_t ctx,
                         uint64_t store,
                         const char *category,
                         size_t category_len,
                         const char *name,
                         size_t name_len,
                         uint64_t version);

// Writes the names of a category's models in order, as a JSON array. Free it with freeString.
int32_t sop_model_list(int64_t ctx, uint64_t store, const char *category, size_t category_len, char **out);

// Writes the categories that have models in order, as a JSON array. Free it with freeString.
int32_t sop_model_categories(int64_t ctx, uint64_t store, char **out);

// Begins to write the artefact of a new version: write it with sop_model_upload_write, save it with sop_model_upload_save, release the
// handle with sop_handle_release; released before it was saved, nothing is left of it. format says what the bytes are, in the caller's words.
// Opened on a database it is a transaction of its own, which saving commits.
int32_t sop_model_upload(int64_t ctx,
                         uint64_t store,
                         const char *category,
                         size_t category_len,
                         const char *name,
                         size_t name_len,
                         const char *format,
                         size_t format_len,
                         uint64_t *out);

// Adds len bytes to an artefact.
int32_t sop_model_upload_write(int64_t ctx, uint64_t upload, const void *data, size_t len);

// Saves a model (JSON) with the artefact that was written, and writes its version; otherwise as sop_model_save. It is not run again when it lost
// against another transaction: then the artefact is to be written again.
int32_t sop_model_upload_save(int64_t ctx,
                              uint64_t upload,
                              const char *model,
                              size_t model_len,
                              uint64_t *version);

// Reads bytes of the artefact of a version (0: the newest one) from offset on into buffer, which has room for len, and writes how many there
// were: fewer only at the end. No such version, or one without an artefact: SOP_ERROR_CODE_ITEM_NOT_FOUND.
int32_t sop_model_read_artifact(int64_t ctx,
                                uint64_t store,
                                const char *category,
                                size_t category_len,
                                const char *name,
                                size_t name_len,
                                uint64_t version,
                                uint64_t offset,
                                void *buffer,
                                size_t len,
                                size_t *out);

// Connects this process to a Redis server, redis://[user:password@]host[:port][/database] (rediss:// for TLS), in place of the
// one before. A Clustered database that is opened without one looks for it at redis://localhost:6379.
// A server that cannot be reached within 2 seconds or does not answer: SOP_ERROR_CODE_REDIS.
int32_t sop_redis_open(const char *uri,
                       size_t uri_len);

// Closes the Redis connection, if there is one: databases that are open go on without.
int32_t sop_redis_close(void);

// As sop_redis_open: NULL, or the text of an error, freed with freeString. The address ends with a zero byte.
char *openRedisConnection(const char *uri);

// As sop_redis_close: NULL, or the text of an error, freed with freeString.
char *closeRedisConnection(void);

// Databases by UUID. Action: SopDatabaseAction. New: payload is the options of sop_database_open; gives the UUID.
// BeginTransaction: target is the database; payload is a mode, or {"mode":..,"max_time":..}; gives the transaction's
// UUID. Close: target is the database; transactions begun on it can still be ended.
char *manageDatabase(long long ctx, int action, const char *target, const char *payload);

// Transactions by UUID. Action: SopTransactionAction; payload is the transaction. NULL when done. A transaction that has
// ended, and the stores opened in it, are not found any more.
char *manageTransaction(long long ctx,
                        int action,
                        const char *payload);

// Opens and changes B-trees by UUID. Action: SopBtreeAction. New and Open: meta is the options with "transaction_id";
// gives the store's UUID. Others: meta is {"transaction_id":..,"btree_id":..}, payload {"items":[..]}, or for Remove an
// array of keys; gives "true" or "false".
char *manageBtree(long long ctx, int action, const char *meta, const char *payload);

// Moves the cursor. Action: SopBtreeAction; meta is {"transaction_id":..,"btree_id":..}; payload of Find and FindWithId
// is {"items":[{"key":..,"id":..}]}. Gives "true" or "false".
char *navigateBtree(long long ctx, int action, const char *meta, const char *payload);

// Reads from a B-tree. Action: SopBtreeAction; meta is {"transaction_id":..,"btree_id":..}. GetItems and GetKeys: payload
// is the paging of sop_btree_page; GetValues: {"items":[..]}; GetStoreInfo: none. One of the two results is NULL; free
// the other with freeString.
struct getFromBtree_return getFromBtree(long long ctx,
                                        int action,
                                        const char *meta,
                                        const char *payload);

// Gives "true" or "false", or the text of an error. Meta is {"transaction_id":..,"btree_id":..}.
char *isUniqueBtree(const char *meta);

// The number of items. Meta is {"transaction_id":..,"btree_id":..}. Free the error, if any, with freeString.
struct getBtreeItemCount_return getBtreeItemCount(const char *meta);

// Vector stores by UUID. Action: SopVectorAction. NewVectorDb, BeginTransaction, CloseVectorDb: as manageDatabase.
// OpenVectorStore: target is the database or NULL, payload {"transaction_id":..,"name":..,"config":{"usage_mode":..}};
// gives the store's UUID. Others: target is {"id":..,"transaction_id":..}; payload of Upsert is an item, of UpsertBatch an
// array of items, of Get and Delete an id, of Query the options of sop_vector_query.
char *manageVectorDB(long long ctx,
                     int action,
                     const char *target,
                     const char *payload);

// Model stores by UUID. Action: SopModelAction. NewModelDb, CloseModelDb: as manageDatabase. NewBtreeModelStore: payload
// is {"transaction_id":..,"path":".."}, path being the store's name ("global" when left out); gives the store's UUID.
// Others: target is {"id":..,"transaction_id":..}; payload is {"category":..,"name":..,"model":..}, for List the category.
char *manageModelStore(long long ctx,
                       int action,
                       const char *target,
                       const char *payload);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* LIBJSONDB_H */
