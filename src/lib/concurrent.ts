/** Bounded concurrency over streams. */

/**
 * Runs `work` on up to `jobs` items at a time and yields the results in the order of the items. At most `jobs`
 * items are taken ahead of the reader. A failure is thrown at its place, after work under way has settled.
 */
export async function* mapOrdered<T, R>(
  items: AsyncIterable<T>,
  jobs: number,
  work: (item: T) => Promise<R>,
): AsyncGenerator<R> {
  const iterator = items[Symbol.asyncIterator]();
  const pending: Promise<R>[] = [];
  let ended = false;
  try {
    for (;;) {
      while (!ended && pending.length < jobs) {
        const next = await iterator.next();
        if (next.done) {
          ended = true;
          break;
        }
        const result = work(next.value);
        // Whoever reads it later sees the failure; until then it must not count as unhandled.
        result.catch(() => undefined);
        pending.push(result);
      }
      const first = pending.shift();
      if (first === undefined) return;
      yield await first;
    }
  } finally {
    await Promise.allSettled(pending);
    if (!ended) await iterator.return?.();
  }
}

/** Gathers up to `size` neighbours at a time. */
export async function* inBatches<T>(items: AsyncIterable<T>, size: number): AsyncGenerator<T[]> {
  let batch: T[] = [];
  for await (const item of items) {
    batch.push(item);
    if (batch.length >= size) {
      yield batch;
      batch = [];
    }
  }
  if (batch.length > 0) yield batch;
}
