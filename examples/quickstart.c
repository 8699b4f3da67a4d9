/*
 * A first C program: a B-tree, a vector store and a model store change in one transaction, and are found again after the
 * database was closed and opened. Build and run it after `make install` (libjsondb/docs/bindings.md):
 *
 *   cc examples/quickstart.c $(pkg-config --cflags --libs jsondb) -o quickstart
 *   ./quickstart /tmp/sop_quickstart
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libjsondb.h"

/* Text goes in as a pointer and a length. */
#define TEXT(text) (text), strlen(text)

/* Calls are not part of a context here: nobody cancels them. */
static const int64_t NO_CONTEXT = 0;

/* Every sop_ function that can fail returns 0 or an SopErrorCode; the message is the calling thread's last error. */
static void check(int32_t code, const char *what)
{
    if (code == SOP_ERROR_CODE_OK) {
        return;
    }
    char *error = sop_last_error();
    fprintf(stderr, "cannot %s: error %" PRId32 ": %s\n", what, code, error != NULL ? error : "");
    freeString(error);
    exit(EXIT_FAILURE);
}

/* Prints a text that came out of the library, and gives it back. */
static void print_and_free(const char *label, char *text)
{
    printf("%-8s%s\n", label, text != NULL ? text : "nothing");
    freeString(text);
}

static uint64_t open_database(const char *folder)
{
    /* Options are JSON. A folder with quotes or backslashes in its name would have to be escaped. */
    char options[4096];
    int length = snprintf(options, sizeof options, "{\"storage_path\": \"%s\"}", folder);
    if (length < 0 || (size_t)length >= sizeof options) {
        fprintf(stderr, "the folder's name is too long\n");
        exit(EXIT_FAILURE);
    }
    uint64_t database = 0;
    check(sop_database_open(NO_CONTEXT, TEXT(options), &database), "open the database");
    return database;
}

/* Objects are handles, numbers that are never 0; whatever is opened is released. */
static void close_database(uint64_t database)
{
    check(sop_database_close(NO_CONTEXT, database), "close the database");
    sop_handle_release(database);
}

static void store(uint64_t database)
{
    uint64_t transaction = 0, users = 0, products = 0, models = 0, version = 0;
    int32_t done = 0;
    check(sop_transaction_begin(NO_CONTEXT, database, SOP_TRANSACTION_MODE_FOR_WRITING, 15, &transaction),
          "begin a transaction");

    /* A B-tree of users, made on the first run and opened on the next. Keys and values are JSON. */
    check(sop_btree_new(NO_CONTEXT, transaction, TEXT("{\"name\": \"users\", \"is_unique\": true}"), &users),
          "open the B-tree");
    check(sop_btree_write(NO_CONTEXT, users, SOP_WRITE_ACTION_UPSERT,
                          TEXT("[{\"key\": 1, \"value\": \"Alice\"}, {\"key\": 2, \"value\": {\"name\": \"Bob\"}}]"), &done),
          "write users");

    /* A vector store in the same transaction. */
    check(sop_vector_open(NO_CONTEXT, transaction, TEXT("{\"name\": \"products\"}"), &products), "open the vector store");
    check(sop_vector_upsert(NO_CONTEXT, products,
                            TEXT("[{\"id\": \"laptop\", \"vector\": [0.1, 0.5, 0.9], \"payload\": {\"price\": 999}},"
                                 " {\"id\": \"phone\", \"vector\": [0.9, 0.2, 0.1], \"payload\": {\"price\": 499}}]")),
          "write vectors");

    /* And a model. */
    check(sop_model_open(NO_CONTEXT, transaction, TEXT("my_models"), &models), "open the model store");
    check(sop_model_save(NO_CONTEXT, models, TEXT("classifiers"), TEXT("churn_v1"),
                         TEXT("{\"id\": \"churn_v1\", \"parameters\": [0.5, 0.1]}"), &version),
          "save the model");

    /* All of it is stored now, or on an error nothing of it. */
    check(sop_transaction_commit(NO_CONTEXT, transaction), "commit");

    sop_handle_release(models);
    sop_handle_release(products);
    sop_handle_release(users);
    sop_handle_release(transaction);
}

static void read_back(uint64_t database)
{
    uint64_t transaction = 0, users = 0, products = 0, models = 0;
    char *text = NULL;
    check(sop_transaction_begin(NO_CONTEXT, database, SOP_TRANSACTION_MODE_FOR_READING, 15, &transaction),
          "begin a transaction");

    check(sop_btree_open(NO_CONTEXT, transaction, TEXT("users"), &users), "open the B-tree");
    check(sop_btree_find_one(NO_CONTEXT, users, TEXT("1"), 0, &text), "find user 1");
    print_and_free("user", text);

    check(sop_vector_open(NO_CONTEXT, transaction, TEXT("{\"name\": \"products\"}"), &products), "open the vector store");
    check(sop_vector_query(NO_CONTEXT, products, TEXT("{\"vector\": [0.1, 0.5, 0.8], \"k\": 1}"), &text),
          "search for vectors");
    print_and_free("nearest", text);

    check(sop_model_open(NO_CONTEXT, transaction, TEXT("my_models"), &models), "open the model store");
    check(sop_model_get(NO_CONTEXT, models, TEXT("classifiers"), TEXT("churn_v1"), 0, &text), "read the model");
    print_and_free("model", text);

    check(sop_transaction_commit(NO_CONTEXT, transaction), "commit");
    sop_handle_release(models);
    sop_handle_release(products);
    sop_handle_release(users);
    sop_handle_release(transaction);
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "/tmp/sop_quickstart";
    printf("libjsondb %s in %s\n", sop_version(), folder);

    uint64_t database = open_database(folder);
    store(database);
    close_database(database);

    database = open_database(folder);
    read_back(database);
    close_database(database);
    return EXIT_SUCCESS;
}
