// The first program in Go: a B-tree, a vector store and a model store change in one transaction, and are found again after the
// database was closed and opened. Run it after `make install` (libjsondb/docs/bindings.md):
//
//	go run examples/quickstart.go /tmp/sop_quickstart
package main

// #cgo pkg-config: jsondb
// #include "libjsondb.h"
import "C"

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"
)

// Calls are not part of a context here: nobody cancels them.
const noContext = 0

// What is opened is a number that is never 0, and is released.
type handle = C.uint64_t

// text goes in as a pointer and a length; it stays Go's memory, lent to the call.
func text(value string) (*C.char, C.size_t) {
	bytes := append([]byte(value), 0)
	return (*C.char)(unsafe.Pointer(&bytes[0])), C.size_t(len(value))
}

// take copies a text that came out of the library, and gives it back.
func take(out *C.char) string {
	defer C.freeString(out)
	return C.GoString(out)
}

// call runs a function that returns 0 or an SopErrorCode. The message is the error of the thread that made the call, so the
// goroutine stays on it until the message is read.
func call(function func() C.int32_t) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if function() != C.SOP_ERROR_CODE_OK {
		panic(errors.New(take(C.sop_last_error())))
	}
}

func open(folder string) (database handle) {
	options, err := json.Marshal(map[string]string{"storage_path": folder})
	if err != nil {
		panic(err)
	}
	bytes, length := text(string(options))
	call(func() C.int32_t { return C.sop_database_open(noContext, bytes, length, &database) })
	return database
}

func closeDatabase(database handle) {
	call(func() C.int32_t { return C.sop_database_close(noContext, database) })
	C.sop_handle_release(database)
}

func begin(database handle, mode C.int32_t) (transaction handle) {
	call(func() C.int32_t { return C.sop_transaction_begin(noContext, database, mode, 15, &transaction) })
	return transaction
}

func commit(transaction handle) {
	call(func() C.int32_t { return C.sop_transaction_commit(noContext, transaction) })
}

func openVectors(transaction handle) (products handle) {
	options, length := text(`{"name": "products"}`)
	call(func() C.int32_t { return C.sop_vector_open(noContext, transaction, options, length, &products) })
	return products
}

func openModels(transaction handle) (models handle) {
	name, length := text("my_models")
	call(func() C.int32_t { return C.sop_model_open(noContext, transaction, name, length, &models) })
	return models
}

func store(database handle) {
	transaction := begin(database, C.SOP_TRANSACTION_MODE_FOR_WRITING)
	defer C.sop_handle_release(transaction) // rolls back, unless it was committed

	var users handle
	options, optionsLen := text(`{"name": "users", "is_unique": true}`)
	call(func() C.int32_t { return C.sop_btree_new(noContext, transaction, options, optionsLen, &users) })
	defer C.sop_handle_release(users)
	var done C.int32_t
	items, itemsLen := text(`[{"key": 1, "value": "Alice"}, {"key": 2, "value": {"name": "Bob"}}]`)
	call(func() C.int32_t {
		return C.sop_btree_write(noContext, users, C.SOP_WRITE_ACTION_UPSERT, items, itemsLen, &done)
	})

	products := openVectors(transaction)
	defer C.sop_handle_release(products)
	vectors, vectorsLen := text(`[{"id": "laptop", "vector": [0.1, 0.5, 0.9], "payload": {"price": 999}},
		{"id": "phone", "vector": [0.9, 0.2, 0.1], "payload": {"price": 499}}]`)
	call(func() C.int32_t { return C.sop_vector_upsert(noContext, products, vectors, vectorsLen) })

	models := openModels(transaction)
	defer C.sop_handle_release(models)
	var version C.uint64_t
	category, categoryLen := text("classifiers")
	name, nameLen := text("churn_v1")
	model, modelLen := text(`{"id": "churn_v1", "parameters": [0.5, 0.1]}`)
	call(func() C.int32_t {
		return C.sop_model_save(noContext, models, category, categoryLen, name, nameLen, model, modelLen, &version)
	})

	commit(transaction)
}

func readBack(database handle) {
	transaction := begin(database, C.SOP_TRANSACTION_MODE_FOR_READING)
	defer C.sop_handle_release(transaction)
	var out *C.char

	var users handle
	options, optionsLen := text("users")
	call(func() C.int32_t { return C.sop_btree_open(noContext, transaction, options, optionsLen, &users) })
	defer C.sop_handle_release(users)
	key, keyLen := text("1")
	call(func() C.int32_t { return C.sop_btree_find_one(noContext, users, key, keyLen, 0, &out) })
	fmt.Println("user   ", take(out))

	products := openVectors(transaction)
	defer C.sop_handle_release(products)
	query, queryLen := text(`{"vector": [0.1, 0.5, 0.8], "k": 1}`)
	call(func() C.int32_t { return C.sop_vector_query(noContext, products, query, queryLen, &out) })
	fmt.Println("nearest", take(out))

	models := openModels(transaction)
	defer C.sop_handle_release(models)
	category, categoryLen := text("classifiers")
	name, nameLen := text("churn_v1")
	call(func() C.int32_t {
		return C.sop_model_get(noContext, models, category, categoryLen, name, nameLen, 0, &out)
	})
	fmt.Println("model  ", take(out))

	commit(transaction)
}

func main() {
	folder := "/tmp/sop_quickstart"
	if len(os.Args) > 1 {
		folder = os.Args[1]
	}
	fmt.Printf("libjsondb %s in %s\n", C.GoString(C.sop_version()), folder)

	database := open(folder)
	store(database)
	closeDatabase(database)

	database = open(folder)
	readBack(database)
	closeDatabase(database)
}
