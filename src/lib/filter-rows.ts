/**
 * A filter program that runs again and again on what is in memory. To start a program from a process as large as ours costs
 * 15 ms of CPU, since fork(2) copies the page tables of 200 MB and each page again when it is written next; from one of
 * 45 MB it is 1.5 ms. So a small shell starts them, a few in a row, each with a socket of its own for both directions. The
 * next one waits for its input already while the last one is read.
 */
import { type ChildProcess, spawn } from "node:child_process";
import type { Socket } from "node:net";
import { type FilterProgram, filterFailure, SAID_CHARACTERS } from "./filter-program.ts";

/** Every shell knows descriptors of one digit. */
const DESCRIPTORS = [3, 4, 5, 6, 7, 8, 9] as const;
/** The shell says a line when a run has ended well, and leaves when one has not. */
const SCRIPT = DESCRIPTORS.map((each) => `"$0" "$@" <&${each} >&${each} || exit; echo; exec ${each}>&-`);
/** A row that nobody needs for so long is ended. */
const IDLE_MS = 1000;

export class FilterRows {
  readonly #filter: FilterProgram;
  #idle: Row[] = [];

  constructor(filter: FilterProgram) {
    this.#filter = filter;
  }

  /** What the program makes of `input`. As many run at once as there are calls. Throws as `filterThrough` does. */
  async run(input: Uint8Array): Promise<readonly Uint8Array[]> {
    this.#idle = this.#idle.filter((row) => row.usable);
    const row = this.#idle.pop() ?? new Row(this.#filter);
    const output = await row.run(input);
    this.#idle.push(row);
    return output;
  }
}

/** One shell and its runs. */
class Row {
  readonly #child: ChildProcess;
  readonly #sockets: readonly Socket[];
  readonly #ended: Promise<Error>;
  #begun = 0;
  #done = 0;
  #onDone = (): void => undefined;
  #over = false;
  #idling: NodeJS.Timeout | undefined;

  constructor(filter: FilterProgram) {
    const child = spawn("sh", ["-c", SCRIPT.join("; "), filter.program, ...filter.args], {
      stdio: ["ignore", "pipe", "pipe", ...DESCRIPTORS.map(() => "pipe" as const)],
      // Keys that interrupt us are not for it: what is under way is finished.
      detached: true,
    });
    this.#child = child;
    const pipes: readonly unknown[] = child.stdio;
    this.#sockets = DESCRIPTORS.map((each) => pipes[each] as Socket);
    // How the shell ends says why a run came to nothing.
    for (const socket of this.#sockets) socket.on("error", () => undefined);
    let said = "";
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      if (said.length < SAID_CHARACTERS) said += text;
    });
    child.stdout?.on("data", (lines: Buffer) => {
      this.#done += lines.length;
      this.#onDone();
    });
    this.#ended = new Promise((resolve) => {
      const end = (failure: Error): void => {
        this.#over = true;
        resolve(failure);
      };
      child.on("error", (cause) => end(filterFailure(filter, { cause })));
      child.on("close", (code, signal) => end(filterFailure(filter, { said, code, signal })));
    });
    // While it is idle it keeps no process alive.
    for (const each of [child.stdout, child.stderr, ...this.#sockets]) (each as Socket | null)?.unref();
    child.unref();
  }

  get usable(): boolean {
    return !this.#over && this.#begun < this.#sockets.length;
  }

  /** One at a time, while it is usable. */
  async run(input: Uint8Array): Promise<readonly Uint8Array[]> {
    clearTimeout(this.#idling);
    this.#child.ref();
    const socket = this.#sockets[this.#begun] as Socket;
    this.#begun += 1;
    const own = this.#begun;
    const parts: Uint8Array[] = [];
    const read = async (): Promise<void> => {
      for await (const part of socket as AsyncIterable<Buffer>) parts.push(part);
    };
    const judged = new Promise<void>((resolve) => {
      this.#onDone = () => this.#done >= own && resolve();
    });
    socket.ref().end(input);
    await Promise.allSettled([read(), Promise.race([judged, this.#ended])]);
    // It would hold input and output until the next run.
    this.#onDone = () => undefined;
    if (this.#done < own) throw await this.#ended;
    this.#child.unref();
    this.#idling = setTimeout(() => this.#end(), IDLE_MS).unref();
    return parts;
  }

  /** The program that waits reads the end of its input, and has nobody to write to. */
  #end(): void {
    this.#over = true;
    for (const socket of this.#sockets) socket.destroy();
  }
}
