// Ordinary uses of Google's Spanner client for Node.js; prints what each found as JSON. Knows no Spangate.
'use strict';

const {Spanner} = require('@google-cloud/spanner');

const spanner = new Spanner();
const database = spanner.instance('main').database('post');
const parcels = database.table('Parcels');

const MOMENT = '2030-01-02T03:04:05.678Z';
const ROW = {
  Sender: 'Zoë',
  Fragile: true,
  Weight: Spanner.float(1.5),
  Value: Spanner.numeric('12.34'),
  Label: Buffer.from([0, 255]),
  Posted: Spanner.date('2030-01-02'),
  Scanned: Spanner.timestamp(MOMENT),
  Details: {a: [1, null]},
  Marks: ['x', ''],
  Stops: [1, null, 3],
};
const TYPES = {
  Sender: 'string',
  Fragile: 'bool',
  Weight: 'float64',
  Value: 'numeric',
  Label: 'bytes',
  Posted: 'date',
  Scanned: 'timestamp',
  Details: 'json',
  Marks: {type: 'array', child: 'string'},
  Stops: {type: 'array', child: 'int64'},
};

const plain = rows => rows.map(row => row.toJSON());

async function count(where) {
  const [[{n}]] = await database.run({sql: `SELECT COUNT(*) AS n FROM Parcels WHERE ${where}`, json: true});
  return n;
}

function text(row) {
  return Object.fromEntries(
    Object.entries(row).map(([name, value]) => {
      if (Buffer.isBuffer(value)) return [name, value.toString('base64')];
      return [name, value === null ? null : JSON.parse(JSON.stringify(value))];
    })
  );
}

async function mutations() {
  await parcels.deleteRows([1, 2, 3, 4]);
  await parcels.insert([{ParcelId: 1, Sender: 'a'}, {ParcelId: 2, Sender: 'b'}, {ParcelId: 3, Sender: 'c'}]);
  await parcels.update({ParcelId: 1, Sender: 'updated'});
  await parcels.upsert([
    {ParcelId: 2, Sender: 'changed', Touched: null},
    {ParcelId: 4, Sender: 'new', Touched: Spanner.COMMIT_TIMESTAMP},
  ]);
  await parcels.replace({ParcelId: 3, Sender: 'replaced'});
  const [before] = await parcels.read({columns: ['ParcelId', 'Sender'], keys: [1, 2, 3, 4]});
  await parcels.deleteRows([3, 4]);
  return {before: plain(before), left: await count('ParcelId IN (1, 2, 3, 4)')};
}

async function types() {
  await parcels.upsert({ParcelId: 10, ...ROW});
  const columns = Object.keys(ROW);
  const [[read]] = await parcels.read({columns, keys: [10]});
  const sql = 'SELECT ' + columns.map(name => `@${name} AS ${name}`).join(', ');
  const [[echoed]] = await database.run({sql, params: ROW, types: TYPES});
  const nulls = Object.fromEntries(columns.map(name => [name, null]));
  const [[empty]] = await database.run({sql, params: nulls, types: TYPES});
  return {read: text(read.toJSON()), echoed: text(echoed.toJSON()), empty: text(empty.toJSON())};
}

async function structs() {
  const wanted = Spanner.struct({ParcelId: Spanner.int(10), Sender: 'Zoë'});
  const [one] = await database.run({sql: 'SELECT @s.ParcelId AS id, @s.Sender AS sender', params: {s: wanted}});
  const [many] = await database.run({
    sql: 'SELECT ParcelId FROM Parcels WHERE STRUCT<ParcelId INT64, Sender STRING>(ParcelId, Sender) IN UNNEST(@s)',
    params: {s: [wanted]},
    types: {
      s: {
        type: 'array',
        child: {type: 'struct', fields: [{name: 'ParcelId', type: 'int64'}, {name: 'Sender', type: 'string'}]},
      },
    },
  });
  return [plain(one), plain(many)];
}

async function snapshots() {
  const [{commitTimestamp}] = await parcels.upsert({ParcelId: 10, ...ROW});
  const one = {sql: 'SELECT Sender FROM Parcels WHERE ParcelId = 10'};
  const found = [];
  const [snapshot] = await database.getSnapshot({strong: true, returnReadTimestamp: true});
  found.push(plain((await snapshot.run(one))[0]));
  const request = {columns: ['ParcelId', 'Fragile'], keys: ['Zoë'], index: 'ParcelsBySender'};
  found.push(plain((await snapshot.read('Parcels', request))[0]));
  snapshot.end();
  for (const bounds of [
    {strong: true},
    {exactStaleness: 0},
    {maxStaleness: 0},
    {readTimestamp: Spanner.timestamp(new Date(Number(commitTimestamp.seconds) * 1000 + 1000))},
  ]) {
    found.push(plain((await database.run(one, bounds))[0]));
  }
  return found;
}

async function transactions() {
  await parcels.deleteRows([20, 21, 22, 23]);
  const found = await database.runTransactionAsync({requestOptions: {transactionTag: 'desk'}}, async transaction => {
    const [inserted] = await transaction.runUpdate(
      'INSERT INTO Parcels (ParcelId, Sender, Touched) ' +
        "VALUES (20, 'a', PENDING_COMMIT_TIMESTAMP()), (21, 'b', PENDING_COMMIT_TIMESTAMP())"
    );
    const [returned] = await transaction.run({
      sql: 'UPDATE Parcels SET Sender = @s WHERE ParcelId = @id THEN RETURN ParcelId, Sender',
      params: {s: 'c', id: 20},
    });
    const [counts] = await transaction.batchUpdate([
      "INSERT INTO Parcels (ParcelId, Sender) VALUES (22, 'd')",
      {sql: 'UPDATE Parcels SET Sender = @s WHERE ParcelId = @id', params: {s: 'e', id: 22}},
      'DELETE FROM Parcels WHERE ParcelId = 21',
    ]);
    const [seen] = await transaction.read('Parcels', {columns: ['ParcelId'], keys: [20, 21, 22]});
    transaction.upsert('Parcels', {ParcelId: 23, Sender: 'f'});
    await transaction.commit();
    return {inserted, returned: plain(returned), counts, seen: plain(seen)};
  });
  let rolledBack = '';
  try {
    await database.runTransactionAsync(async transaction => {
      await transaction.runUpdate('DELETE FROM Parcels WHERE true');
      await transaction.rollback();
      throw new Error('on purpose');
    });
  } catch (error) {
    rolledBack = error.message;
  }
  return {...found, rolledBack, left: await count('ParcelId BETWEEN 20 AND 23')};
}

// Two transactions that overlap: one of them is aborted, and the client tries it again by itself.
async function aborted() {
  await parcels.upsert({ParcelId: 30, Weight: Spanner.float(0)});
  let started = 0;
  const add = between =>
    database.runTransactionAsync(async transaction => {
      started += 1;
      const [[{weight}]] = await transaction.run({
        sql: 'SELECT Weight AS weight FROM Parcels WHERE ParcelId = 30',
        json: true,
      });
      await between();
      await transaction.runUpdate({
        sql: 'UPDATE Parcels SET Weight = @w WHERE ParcelId = 30',
        params: {w: Spanner.float(weight + 1)},
      });
      await transaction.commit();
    });
  let other;
  await add(async () => {
    if (other) return;
    other = add(async () => {});
    while (started < 2) await new Promise(resolve => setTimeout(resolve, 5));
    // Long enough for its first statement to reach Spanner.
    await new Promise(resolve => setTimeout(resolve, 200));
  });
  await other;
  const [[{weight}]] = await database.run({sql: 'SELECT Weight AS weight FROM Parcels WHERE ParcelId = 30', json: true});
  return weight;
}

async function errors() {
  const found = [];
  for (const sql of ['INSERT INTO Parcels (ParcelId) VALUES (40), (40)', 'SELECT 1 / 0']) {
    await database.runTransactionAsync(async transaction => {
      try {
        await transaction.run(sql);
      } catch (error) {
        found.push(error.code);
      }
      await transaction.rollback();
    });
  }
  return found;
}

async function manyAtOnce() {
  await parcels.upsert([{ParcelId: 31, Sender: 'a'}, {ParcelId: 32, Sender: 'a'}]);
  const sql = "UPDATE Parcels SET Sender = 'b' WHERE ParcelId IN (31, 32)";
  const [changed] = await database.runPartitionedUpdate(sql);
  return {changed, left: await count("ParcelId IN (31, 32) AND Sender = 'b'")};
}

async function partitions() {
  await parcels.upsert([{ParcelId: 31, Sender: 'a'}, {ParcelId: 32, Sender: 'a'}]);
  const [transaction] = await database.createBatchTransaction();
  const found = [];
  const [queries] = await transaction.createQueryPartitions({sql: 'SELECT ParcelId FROM Parcels WHERE ParcelId IN (31, 32)'});
  const [reads] = await transaction.createReadPartitions({table: 'Parcels', columns: ['ParcelId'], keys: [['31']]});
  for (const partition of [...queries, ...reads]) {
    const [rows] = await transaction.execute(partition);
    found.push(...plain(rows).map(row => row.ParcelId));
  }
  await transaction.close();
  return found.sort();
}

async function schema() {
  const change = async statement => {
    const [operation] = await database.updateSchema(statement);
    await operation.promise();
    const [statements] = await database.getSchema();
    return statements.filter(text => text.includes('Sketches')).length;
  };
  return [await change('CREATE TABLE Sketches (Id INT64) PRIMARY KEY (Id)'), await change('DROP TABLE Sketches')];
}

// What a program meets that may not do it.
async function denied() {
  const told = async work => {
    const started = Date.now();
    try {
      await work();
      return {code: 0};
    } catch (error) {
      return {code: error.code, message: error.message, seconds: (Date.now() - started) / 1000};
    }
  };
  return {
    allowed: plain((await database.run('SELECT ParcelId FROM Parcels WHERE ParcelId = -1'))[0]),
    query: await told(() => database.run('SELECT Weight FROM Parcels')),
    read: await told(() => database.table('Ledger').read({columns: ['Amount'], keySet: {all: true}})),
    mutation: await told(() => parcels.insert({ParcelId: 99})),
    manyAtOnce: await told(() => database.runPartitionedUpdate('UPDATE Parcels SET Sender = NULL WHERE true')),
    partitions: await told(async () => {
      const [transaction] = await database.createBatchTransaction();
      try {
        await transaction.createQueryPartitions('SELECT Weight FROM Parcels');
      } finally {
        await transaction.close();
      }
    }),
    schema: await told(() => database.updateSchema('DROP TABLE Parcels')),
    transaction: await told(() => database.runTransactionAsync(async transaction => {
      await transaction.runUpdate('UPDATE Parcels SET Sender = NULL WHERE true');
      await transaction.commit();
    })),
    batch: await told(() => database.runTransactionAsync(async transaction => {
      await transaction.batchUpdate(['DELETE FROM Ledger WHERE true']);
      await transaction.commit();
    })),
  };
}

const CASES = {
  mutations, types, structs, snapshots, transactions, aborted, errors, manyAtOnce, partitions, schema, denied,
};

async function main(names) {
  for (const name of names) {
    try {
      console.log(JSON.stringify({case: name, found: await CASES[name]()}));
    } catch (error) {
      console.log(JSON.stringify({case: name, error: String(error)}));
      process.exitCode = 1;
    }
  }
  await database.close();
  spanner.close();
}

main(process.argv.slice(2));
