/** The packages that a sandbox serves: opened when they are first asked for, so that a sandbox starts without them. */
import type { Packages } from "./data/packages.ts";

export class PackageShelf {
  #load: () => Promise<Packages>;
  #opened: Promise<Packages> | undefined;

  constructor(load: () => Promise<Packages>) {
    this.#load = load;
  }

  opened(): Promise<Packages> {
    this.#opened ??= this.#load();
    return this.#opened;
  }

  /** Open others from now on. */
  replace(load: () => Promise<Packages>): void {
    this.#load = load;
    this.#opened = undefined;
  }
}
