/**
 * What the stand-in ascp and the stand-in transfer server say to each other over loopback: lines of JSON, and runs of
 * raw bytes that a line announced. It is not FASP; nothing of the real wire is known or needed.
 */
import { once } from "node:events";
import type { Socket } from "node:net";

/** The longest line; a list of 100,000 sources has some megabytes. */
const MAX_LINE_BYTES = 64 * 1024 * 1024;

export class FaspWire {
  readonly #socket: Socket;
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("error", () => undefined);
    this.#chunks = socket[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  }

  /** The next line's value; undefined when the other side has closed. */
  async readLine(): Promise<unknown> {
    const parts: Buffer[] = [];
    let size = 0;
    for (;;) {
      const end = this.#rest.indexOf(0x0a);
      if (end >= 0) {
        parts.push(this.#rest.subarray(0, end));
        this.#rest = this.#rest.subarray(end + 1);
        return JSON.parse(Buffer.concat(parts).toString("utf8"));
      }
      parts.push(this.#rest);
      size += this.#rest.length;
      if (size > MAX_LINE_BYTES) throw new Error("a line of the transfer connection is too long");
      if (!(await this.#fill())) return undefined;
    }
  }

  /** Exactly so many bytes. Throws when the connection ends before. */
  async *readBytes(count: number): AsyncGenerator<Uint8Array> {
    for (let left = count; left > 0; ) {
      if (this.#rest.length === 0 && !(await this.#fill()))
        throw new Error("the transfer connection was lost");
      const chunk = this.#rest.subarray(0, left);
      this.#rest = this.#rest.subarray(chunk.length);
      left -= chunk.length;
      yield chunk;
    }
  }

  async writeLine(value: unknown): Promise<void> {
    await this.writeBytes(Buffer.from(`${JSON.stringify(value)}\n`));
  }

  /** Waits while the other side does not read. */
  async writeBytes(chunk: Uint8Array): Promise<void> {
    if (this.#socket.destroyed) throw new Error("the transfer connection was lost");
    if (this.#socket.write(chunk)) return;
    const closed = new AbortController();
    await Promise.race([
      once(this.#socket, "drain", { signal: closed.signal }),
      once(this.#socket, "close", { signal: closed.signal }),
    ]).finally(() => closed.abort());
  }

  close(): void {
    this.#socket.destroy();
  }

  async #fill(): Promise<boolean> {
    try {
      const { done, value } = await this.#chunks.next();
      if (done) return false;
      this.#rest = value;
      return true;
    } catch {
      return false;
    }
  }
}

/** How a key file looks from outside; the stand-ins know kinds of keys, no single one. */
export type KeyKind = "rsa" | "dsa" | "other";

/** The first line of a session, from ascp. */
export interface Hello {
  readonly direction: "receive" | "send";
  readonly user: string;
  readonly token: string | null;
  readonly password: string | null;
  readonly key: KeyKind | null;
  /** In the order of the command line or the list file; prefix not applied. */
  readonly sources: readonly string[];
  readonly sourcePrefix: string;
  /** Of a transfer that sends. */
  readonly destination: string;
  /** For the sandbox's record: the command line without the program, and the names of ASPERA variables. */
  readonly command: readonly string[];
  readonly variables: readonly string[];
  /** `-C i:n`: which part of how many. */
  readonly part: string | null;
}

/** How a session shall go wrong: a drawn fault, as far as ascp itself has to play it. */
export interface Misbehaviour {
  readonly kind:
    | "ascp-error"
    | "ascp-exit"
    | "ascp-no-final-frame"
    | "ascp-late-exit"
    | "ascp-hang"
    | "ascp-prompt"
    | "ascp-odd-frames"
    | "ascp-file-error"
    | "ascp-short"
    | "ascp-killed";
  readonly code?: number;
  readonly description?: string;
  /** Once so many bytes of content have passed; 0: before the first. */
  readonly afterBytes?: number;
}

export interface Refusal {
  /** Of the table of ascp's errors. */
  readonly code: number;
  readonly description: string;
}

/** The server's answer to the first line. */
export type Welcome =
  | { readonly refused: Refusal; readonly misbehaviour: Misbehaviour | null }
  | { readonly docroot: string; readonly sessionId: string; readonly misbehaviour: Misbehaviour | null };

/** One entry of what is to be received; `path` below the source, empty for a source that is a file. */
export interface ListedEntry {
  /** Position of the source. */
  readonly source: number;
  readonly path: string;
  readonly type: "file" | "folder";
  readonly sizeBytes: number;
  readonly modifiedMs: number;
}

/** Ends the entries. */
export interface ListEnd {
  readonly end: true;
  /** Sources that could not be found. */
  readonly missing: readonly number[];
  /** Links that lead into a folder above them. */
  readonly loops: number;
}

/** Requests of ascp after the welcome. */
export type FaspRequest =
  | { readonly ask: "list" }
  | { readonly ask: "get"; readonly entry: number; readonly from: number }
  | { readonly ask: "digest"; readonly entry: number; readonly bytes: number }
  | { readonly ask: "look"; readonly path: string }
  | { readonly ask: "put"; readonly path: string; readonly sizeBytes: number; readonly modifiedMs: number }
  | { readonly ask: "bye"; readonly done: boolean };
