// A thread of hash-threads.ts: hashes whole files, or looks at their sizes. Plain JavaScript, because a thread is
// started from a file as it is, from src/ in tests and from dist/ in the program.
//
// Synchronous on purpose: a small file costs an open, a read and a close of some microseconds each, and the detour of
// asynchronous calls costs ten times that.

import { createHash } from "node:crypto";
import { closeSync, constants, fstatSync, openSync, readSync, statSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";

const { doneBytes, stopped } = workerData;
const buffer = Buffer.allocUnsafeSlow(1024 * 1024);
const ABSENT = new Set(["ENOENT", "ENOTDIR", "ENAMETOOLONG"]);
// Windows has no O_NONBLOCK; without it a named pipe would hold us until somebody writes to it.
const FLAGS = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);
/** A batch is cut off after so many bytes: the rest may go to a thread that has nothing to do. */
const BATCH_BYTES = 4 * 1024 * 1024;

function hashOf(path, algorithm) {
  const file = openSync(path, FLAGS);
  try {
    const facts = fstatSync(file);
    if (!facts.isFile()) throw Object.assign(new Error("no regular file"), { code: "NO-FILE" });
    const hash = createHash(algorithm);
    let sizeBytes = 0;
    for (;;) {
      const bytes = readSync(file, buffer, 0, buffer.length, null);
      if (bytes > 0) hash.update(buffer.subarray(0, bytes));
      sizeBytes += bytes;
      Atomics.add(doneBytes, 0, BigInt(bytes));
      if (Atomics.load(stopped, 0) === 1) throw Object.assign(new Error("stopped"), { code: "STOPPED" });
      // A short read at the size that the file has is its end.
      if (bytes === 0 || (bytes < buffer.length && sizeBytes === facts.size)) break;
    }
    return { hex: hash.digest("hex"), sizeBytes };
  } finally {
    closeSync(file);
  }
}

/** The first path that is there. */
function answer({ paths, algorithm }) {
  for (const [index, path] of paths.entries()) {
    // A path that is no UTF-8 is a Buffer of bytes.
    const place = typeof path === "string" ? path : Buffer.from(path.latin1, "latin1");
    try {
      if (algorithm !== null) return { index, ...hashOf(place, algorithm) };
      const facts = statSync(place);
      return { index, hex: "", sizeBytes: facts.isFile() ? facts.size : 0 };
    } catch (error) {
      const { code, errno, syscall, message } = error;
      if (!ABSENT.has(code)) return { index, error: { code, errno, syscall, message } };
    }
  }
  return null;
}

parentPort.on("message", (message) => {
  const answers = [];
  let bytes = 0;
  for (const task of JSON.parse(message)) {
    const one = answer(task);
    answers.push(one);
    bytes += task.algorithm === null ? 0 : (one?.sizeBytes ?? 0);
    if (bytes >= BATCH_BYTES) break;
  }
  parentPort.postMessage(JSON.stringify(answers));
});
