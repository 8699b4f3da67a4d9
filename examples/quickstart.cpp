// The first program in C++: a B-tree, a vector store and a model store change in one transaction, and are found again after
// the database was closed and opened. Build and run it after `make install` (libjsondb/docs/bindings.md):
//
//   c++ -std=c++17 examples/quickstart.cpp $(pkg-config --cflags --libs jsondb) -o quickstart
//   ./quickstart /tmp/sop_quickstart
#include <cstdint>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>

#include "libjsondb.h"

namespace {

// Calls are not part of a context here: nobody cancels them.
constexpr std::int64_t no_context = 0;

// A text that came out of the library, given back.
std::string take(char *text)
{
    std::string taken = text != nullptr ? text : "";
    freeString(text);
    return taken;
}

// A function returns 0 or an SopErrorCode; the message is the calling thread's last error.
void check(std::int32_t code)
{
    if (code != SOP_ERROR_CODE_OK) {
        throw std::runtime_error(take(sop_last_error()));
    }
}

// Owns what was opened. A transaction that goes without a commit is rolled back.
class Handle {
public:
    Handle() = default;
    Handle(const Handle &) = delete;
    Handle &operator=(const Handle &) = delete;
    ~Handle() { sop_handle_release(value); }

    operator std::uint64_t() const { return value; }
    std::uint64_t *out() { return &value; }

private:
    std::uint64_t value = 0;
};

// Calls a function that takes a handle, a text as a pointer and a length, and whatever is after it.
template <typename Function, typename... After>
void call_text(Function function, std::uint64_t handle, std::string_view text, After... after)
{
    check(function(no_context, handle, text.data(), text.size(), after...));
}

// A JSON text: quoted, with what JSON does not take as it is escaped.
std::string quoted(std::string_view text)
{
    std::string json = "\"";
    for (char one : text) {
        if (one == '"' || one == '\\') {
            json += '\\';
        }
        json += one;
    }
    return json + '"';
}

class Database {
public:
    explicit Database(const std::string &folder)
    {
        const std::string options = "{\"storage_path\": " + quoted(folder) + "}";
        check(sop_database_open(no_context, options.data(), options.size(), handle.out()));
    }
    ~Database() { sop_database_close(no_context, handle); }

    operator std::uint64_t() const { return handle; }

private:
    Handle handle;
};

void begin(const Database &database, SopTransactionMode mode, Handle &transaction)
{
    check(sop_transaction_begin(no_context, database, mode, 15, transaction.out()));
}

void store(const Database &database)
{
    Handle transaction, users, products, models;
    begin(database, SOP_TRANSACTION_MODE_FOR_WRITING, transaction);

    std::int32_t done = 0;
    const std::string_view items = R"([{"key": 1, "value": "Alice"}, {"key": 2, "value": {"name": "Bob"}}])";
    call_text(sop_btree_new, transaction, R"({"name": "users", "is_unique": true})", users.out());
    check(sop_btree_write(no_context, users, SOP_WRITE_ACTION_UPSERT, items.data(), items.size(), &done));

    call_text(sop_vector_open, transaction, R"({"name": "products"})", products.out());
    call_text(sop_vector_upsert, products,
              R"([{"id": "laptop", "vector": [0.1, 0.5, 0.9], "payload": {"price": 999}},
                  {"id": "phone", "vector": [0.9, 0.2, 0.1], "payload": {"price": 499}}])");

    std::uint64_t version = 0;
    const std::string_view name = "churn_v1", model = R"({"id": "churn_v1", "parameters": [0.5, 0.1]})";
    call_text(sop_model_open, transaction, "my_models", models.out());
    call_text(sop_model_save, models, "classifiers", name.data(), name.size(), model.data(), model.size(), &version);

    check(sop_transaction_commit(no_context, transaction));
}

void read_back(const Database &database)
{
    Handle transaction, users, products, models;
    begin(database, SOP_TRANSACTION_MODE_FOR_READING, transaction);

    char *text = nullptr;
    call_text(sop_btree_open, transaction, "users", users.out());
    call_text(sop_btree_find_one, users, "1", 0, &text);
    std::cout << "user    " << take(text) << '\n';

    call_text(sop_vector_open, transaction, R"({"name": "products"})", products.out());
    call_text(sop_vector_query, products, R"({"vector": [0.1, 0.5, 0.8], "k": 1})", &text);
    std::cout << "nearest " << take(text) << '\n';

    const std::string_view name = "churn_v1";
    call_text(sop_model_open, transaction, "my_models", models.out());
    call_text(sop_model_get, models, "classifiers", name.data(), name.size(), 0, &text);
    std::cout << "model   " << take(text) << '\n';

    check(sop_transaction_commit(no_context, transaction));
}

}  // namespace

int main(int argc, char **argv)
try {
    const std::string folder = argc > 1 ? argv[1] : "/tmp/sop_quickstart";
    std::cout << "libjsondb " << sop_version() << " in " << folder << '\n';
    store(Database(folder));
    read_back(Database(folder));
    return 0;
} catch (const std::exception &error) {
    std::cerr << error.what() << '\n';
    return 1;
}
