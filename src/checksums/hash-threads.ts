/** Hashes many files on all cores: whole files go to threads, so that no bytes are copied between them. */
import { Worker } from "node:worker_threads";
import { RunError } from "../errors.ts";
import { onDisk } from "../lib/durable-file.ts";
import type { SumsAlgorithm } from "../model/sums-line.ts";

const MAX_BATCH = 64;

export interface HashAnswer {
  /** Which of the paths was there. */
  readonly index: number;
  /** Lower case; empty when only the size was asked for. */
  readonly hex: string;
  /** 0 for what is no regular file, when only the size was asked for. */
  readonly sizeBytes: number;
}

/** What a thread sends for one task. */
type Reply =
  | HashAnswer
  | {
      readonly index: number;
      readonly error: { code: string; errno?: number; syscall?: string; message: string };
    };

interface Task {
  /** A Buffer for a path that is no UTF-8. */
  readonly paths: readonly (string | Buffer)[];
  readonly algorithm: SumsAlgorithm | null;
}

interface Waiting extends Task {
  readonly resolve: (answer: HashAnswer | null) => void;
  readonly reject: (error: unknown) => void;
}

interface Thread {
  readonly worker: Worker;
  batch: Waiting[];
}

export interface HashThreads {
  /** Bytes read until now, of unfinished files too. */
  readonly doneBytes: number;
  /**
   * The first of the paths that is there, following links, or null. Algorithm null: only its size. Rejects with
   * `disk-…` for what can't be read or is no regular file, and with the reason of `close`.
   */
  ask(paths: Task["paths"], algorithm: Task["algorithm"]): Promise<HashAnswer | null>;
  /** Ends the threads, in the middle of a file too; what is asked and unanswered rejects with the reason. */
  close(reason?: unknown): Promise<void>;
}

/** Threads start when there is something to do for them, `jobs` at most. Close them. */
export function openHashThreads(jobs: number): HashThreads {
  const doneBytes = new BigInt64Array(new SharedArrayBuffer(8));
  const stopped = new Int32Array(new SharedArrayBuffer(4));
  const threads: Thread[] = [];
  const idle: Thread[] = [];
  /** Taken from the front by `next`, and cut off now and then: shifting a long array is slow. */
  let queue: Waiting[] = [];
  let next = 0;
  let closed: { readonly reason: unknown } | undefined;
  let dispatching = false;

  const start = (): Thread => {
    const worker = new Worker(new URL("./hash-thread.mjs", import.meta.url), {
      workerData: { doneBytes, stopped },
      // Its garbage is a batch of short texts; V8's own limits would let each thread grow by tens of megabytes.
      resourceLimits: { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 64 },
    });
    const thread: Thread = { worker, batch: [] };
    worker.on("message", (message: string) => {
      const replies = JSON.parse(message) as readonly (Reply | null)[];
      const { batch } = thread;
      thread.batch = [];
      for (const [index, reply] of replies.entries()) settle(batch[index]!, reply);
      if (replies.length < batch.length) {
        queue = [...batch.slice(replies.length), ...queue.slice(next)];
        next = 0;
      }
      idle.push(thread);
      dispatch();
    });
    // A thread does not fail by itself; when it does (no memory), its tasks must not wait for ever.
    worker.on("error", (error) => {
      for (const task of thread.batch.splice(0)) task.reject(error);
    });
    threads.push(thread);
    return thread;
  };

  const dispatch = (): void => {
    dispatching = false;
    while (next < queue.length && closed === undefined) {
      const thread = idle.pop() ?? (threads.length < jobs ? start() : undefined);
      if (thread === undefined) break;
      // A fair share: no thread sits on what another could do.
      const share = Math.min(MAX_BATCH, Math.ceil((queue.length - next) / (2 * jobs)));
      thread.batch = queue.slice(next, next + share);
      next += share;
      thread.worker.postMessage(messageOf(thread.batch));
    }
    if (next > 1024) {
      queue = queue.slice(next);
      next = 0;
    }
  };

  return {
    get doneBytes() {
      return Number(Atomics.load(doneBytes, 0));
    },
    ask(paths, algorithm) {
      if (closed) return Promise.reject(closed.reason);
      return new Promise((resolve, reject) => {
        queue.push({ paths, algorithm, resolve, reject });
        // Not at once: what is asked in one go travels together.
        if (!dispatching) setImmediate(dispatch);
        dispatching = true;
      });
    },
    async close(reason = new RunError("interrupted", "hashing was stopped")) {
      if (closed) return;
      closed = { reason };
      Atomics.store(stopped, 0, 1);
      for (const task of [...threads.flatMap(({ batch }) => batch), ...queue.slice(next)])
        task.reject(reason);
      await Promise.all(threads.map(({ worker }) => worker.terminate()));
    },
  };
}

/** One text: structured cloning of many small objects costs several times as much as hashing small files. */
function messageOf(batch: readonly Waiting[]): string {
  const wire = (path: string | Buffer): string | { latin1: string } =>
    typeof path === "string" ? path : { latin1: path.toString("latin1") };
  return JSON.stringify(batch.map(({ paths, algorithm }) => ({ paths: paths.map(wire), algorithm })));
}

function settle({ paths, resolve, reject }: Waiting, reply: Reply | null): void {
  if (reply === null || !("error" in reply)) {
    resolve(reply);
    return;
  }
  const path = String(paths[reply.index]);
  const at = { operation: "read", path };
  const error =
    reply.error.code === "NO-FILE"
      ? new RunError("disk-error", `${path}: it is no regular file`, { at })
      : Object.assign(new Error(reply.error.message), reply.error);
  onDisk(at, () => Promise.reject(error)).catch(reject);
}
