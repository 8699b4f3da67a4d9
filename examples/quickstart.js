// The first program in Node: a B-tree, a vector store and a model store change in one transaction, and are found again after
// the database was closed and opened. Run it after `make install` (libjsondb/docs/bindings.md):
//
//   npm install koffi
//   node examples/quickstart.js /tmp/sop_quickstart
'use strict';

const { execFileSync } = require('node:child_process');
const koffi = require('koffi');

const folder = process.argv[2] ?? '/tmp/sop_quickstart';
const libdir = execFileSync('pkg-config', ['--variable=libdir', 'jsondb'], { encoding: 'utf8' }).trim();
const library = koffi.load(`${libdir}/libjsondb${process.platform === 'darwin' ? '.3.dylib' : '.so.3'}`);

// A text that comes out is copied, and given back with freeString.
const freeString = library.func('void freeString(void *text)');
koffi.disposable('Text', 'str', freeString);
const version = library.func('const char *sop_version()');
const lastError = library.func('Text sop_last_error()');
const release = library.func('void sop_handle_release(uint64_t handle)');

// Calls are not part of a context here: nobody cancels them.
const NO_CONTEXT = 0;
const FOR_WRITING = 1;
const FOR_READING = 2;
const UPSERT = 6;

// Text goes in as a pointer and a length in bytes.
const text = (value) => [value, Buffer.byteLength(value)];
const json = (value) => text(JSON.stringify(value));

// Declares a function that returns 0 or an SopErrorCode, with its result as the last argument, if it has one. The message is the
// calling thread's last error: such a call is made on Node's own thread, never with .async().
function declare(prototype) {
  const native = library.func(`int32_t ${prototype}`);
  const hasResult = prototype.includes('_Out_');
  return (...args) => {
    const out = [null];
    if (native(NO_CONTEXT, ...args, ...(hasResult ? [out] : [])) !== 0) {
      throw new Error(lastError());
    }
    return out[0];
  };
}

const TEXT = (name) => `const char *${name}, size_t ${name}_len`;
const HANDLE = '_Out_ uint64_t *out';
const databaseOpen = declare(`sop_database_open(int64_t ctx, ${TEXT('options')}, ${HANDLE})`);
const databaseClose = declare('sop_database_close(int64_t ctx, uint64_t database)');
const begin = declare(`sop_transaction_begin(int64_t ctx, uint64_t database, int32_t mode, double max_time, ${HANDLE})`);
const commit = declare('sop_transaction_commit(int64_t ctx, uint64_t transaction)');
const btreeNew = declare(`sop_btree_new(int64_t ctx, uint64_t transaction, ${TEXT('options')}, ${HANDLE})`);
const btreeOpen = declare(`sop_btree_open(int64_t ctx, uint64_t transaction, ${TEXT('name')}, ${HANDLE})`);
const btreeWrite = declare(
  `sop_btree_write(int64_t ctx, uint64_t btree, int32_t action, ${TEXT('items')}, _Out_ int32_t *out)`,
);
const btreeFindOne = declare(
  `sop_btree_find_one(int64_t ctx, uint64_t btree, ${TEXT('key')}, int32_t first, _Out_ Text *out)`,
);
const vectorOpen = declare(`sop_vector_open(int64_t ctx, uint64_t transaction, ${TEXT('options')}, ${HANDLE})`);
const vectorUpsert = declare(`sop_vector_upsert(int64_t ctx, uint64_t store, ${TEXT('items')})`);
const vectorQuery = declare(`sop_vector_query(int64_t ctx, uint64_t store, ${TEXT('options')}, _Out_ Text *out)`);
const modelOpen = declare(`sop_model_open(int64_t ctx, uint64_t transaction, ${TEXT('name')}, ${HANDLE})`);
const modelSave = declare(
  `sop_model_save(int64_t ctx, uint64_t store, ${TEXT('category')}, ${TEXT('name')}, ${TEXT('model')}, ${HANDLE})`,
);
const modelGet = declare(
  `sop_model_get(int64_t ctx, uint64_t store, ${TEXT('category')}, ${TEXT('name')}, uint64_t version, _Out_ Text *out)`,
);

// What is opened is a handle, and is released; a transaction that was not committed is rolled back then.
function inTransaction(database, mode, work) {
  const opened = [];
  const keep = (handle) => {
    opened.push(handle);
    return handle;
  };
  const transaction = keep(begin(database, mode, 15));
  try {
    work(transaction, keep);
    commit(transaction);
  } finally {
    opened.reverse().forEach((handle) => release(handle));
  }
}

function store(transaction, keep) {
  const users = keep(btreeNew(transaction, ...json({ name: 'users', is_unique: true })));
  const items = [
    { key: 1, value: 'Alice' },
    { key: 2, value: { name: 'Bob' } },
  ];
  btreeWrite(users, UPSERT, ...json(items));

  const products = keep(vectorOpen(transaction, ...json({ name: 'products' })));
  const vectors = [
    { id: 'laptop', vector: [0.1, 0.5, 0.9], payload: { price: 999 } },
    { id: 'phone', vector: [0.9, 0.2, 0.1], payload: { price: 499 } },
  ];
  vectorUpsert(products, ...json(vectors));

  const models = keep(modelOpen(transaction, ...text('my_models')));
  modelSave(models, ...text('classifiers'), ...text('churn_v1'), ...json({ id: 'churn_v1', parameters: [0.5, 0.1] }));
}

function readBack(transaction, keep) {
  const users = keep(btreeOpen(transaction, ...text('users')));
  console.log('user   ', btreeFindOne(users, ...json(1), 0));

  const products = keep(vectorOpen(transaction, ...json({ name: 'products' })));
  console.log('nearest', vectorQuery(products, ...json({ vector: [0.1, 0.5, 0.8], k: 1 })));

  const models = keep(modelOpen(transaction, ...text('my_models')));
  console.log('model  ', modelGet(models, ...text('classifiers'), ...text('churn_v1'), 0));
}

console.log(`libjsondb ${version()} in ${folder}`);
for (const [mode, work] of [
  [FOR_WRITING, store],
  [FOR_READING, readBack],
]) {
  const database = databaseOpen(...json({ storage_path: folder }));
  inTransaction(database, mode, work);
  databaseClose(database);
  release(database);
}
