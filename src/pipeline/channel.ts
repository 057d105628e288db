/** Events from a run to whoever reads them, with back-pressure: a slow reader slows the run, none at all does not. */
const BOUND = 256;

export class EventChannel<T> implements AsyncIterable<T> {
  #queue: T[] = [];
  #ended = false;
  #read = false;
  #wakeReader: (() => void) | null = null;
  #wakeWriters: (() => void)[] = [];

  /** Resolves when there is room for more. Never rejects. */
  async push(event: T): Promise<void> {
    if (!this.#read || this.#ended) return;
    this.#queue.push(event);
    this.#wakeReader?.();
    if (this.#queue.length >= BOUND) await new Promise<void>((resolve) => this.#wakeWriters.push(resolve));
  }

  end(): void {
    this.#ended = true;
    this.#wakeReader?.();
    this.#release();
  }

  /** Must be asked for before the first event to see them all; one reader. */
  [Symbol.asyncIterator](): AsyncIterator<T> {
    this.#read = true;
    return {
      next: async () => {
        while (this.#queue.length === 0) {
          if (this.#ended) return { done: true, value: undefined };
          await new Promise<void>((resolve) => {
            this.#wakeReader = resolve;
          });
          this.#wakeReader = null;
        }
        const value = this.#queue.shift() as T;
        if (this.#queue.length < BOUND / 2) this.#release();
        return { done: false, value };
      },
      return: async () => {
        this.#read = false;
        this.#queue = [];
        this.#release();
        return { done: true, value: undefined };
      },
    };
  }

  #release(): void {
    const waiting = this.#wakeWriters;
    this.#wakeWriters = [];
    for (const wake of waiting) wake();
  }
}
