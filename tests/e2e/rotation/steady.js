// Reads with Google's client for Node.js without a pause until a file appears; prints what steady.py prints.
//     node steady.js STOP_FILE PAUSE_MILLISECONDS
'use strict';

const fs = require('node:fs');
const {Spanner} = require('@google-cloud/spanner');

const QUERY = {sql: 'SELECT COUNT(*) AS n FROM Orders', json: true};

async function read(database) {
  const [snapshot] = await database.getSnapshot();
  try {
    const [[{n: count}]] = await snapshot.run(QUERY);
    const [[{n: again}]] = await snapshot.run(QUERY);
    if (count !== again) throw new Error('a snapshot that changes');
  } finally {
    snapshot.end();
  }
}

async function main() {
  const [stop, pause] = process.argv.slice(2);
  // A `run` that is killed leaves its command behind, and nobody would stop this one.
  const parent = process.ppid;
  setInterval(() => process.ppid === parent || process.exit(1), 1000).unref();
  const spanner = new Spanner();
  const database = spanner.instance('main').database('shop');
  const found = {what: 'reader in Node.js', done: 0, failed: [], slowest: 0};
  while (!fs.existsSync(stop)) {
    const began = performance.now();
    try {
      await read(database);
    } catch (error) {
      found.failed.push(String(error.stack));
    }
    found.done += 1;
    found.slowest = Math.max(found.slowest, (performance.now() - began) / 1000);
    await new Promise(resolve => setTimeout(resolve, Number(pause)));
  }
  await database.close();
  console.log(JSON.stringify(found));
}

main().then(
  () => process.exit(0),
  error => {
    console.error(error);
    process.exit(1);
  }
);
