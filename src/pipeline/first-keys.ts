/** The first `limit` distinct keys in sorted order, of any number seen, in memory for `limit` of them. */
export class FirstKeys {
  readonly #limit: number;
  #keys: string[] = [];

  constructor(limit: number) {
    this.#limit = limit;
  }

  add(key: string): void {
    const last = this.#keys.at(-1);
    if (this.#keys.length >= this.#limit && last !== undefined && key >= last) return;
    let low = 0;
    let high = this.#keys.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#keys[middle] as string) < key) low = middle + 1;
      else high = middle;
    }
    if (this.#keys[low] === key) return;
    this.#keys.splice(low, 0, key);
    if (this.#keys.length > this.#limit) this.#keys.pop();
  }

  some(test: (key: string) => boolean): boolean {
    return this.#keys.some(test);
  }

  has(key: string): boolean {
    return this.#keys.includes(key);
  }
}
