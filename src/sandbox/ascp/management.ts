/** The management channel of ascp, its side: frames of `FASPMGR 2` to the client that listens, commands from it. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";

export type Fields = Readonly<Record<string, string | number | boolean | undefined>>;

export interface Command {
  readonly type: string;
  readonly fields: Readonly<Record<string, string>>;
}

export class ManagementChannel {
  readonly #socket: Socket | null;
  /** Sizes of the pieces in which frames leave; null: whole. */
  #pieces: (() => number) | null = null;
  #writing: Promise<void> = Promise.resolve();

  private constructor(socket: Socket | null) {
    this.#socket = socket;
  }

  /** Without `port` a channel that nobody hears. Rejects when nobody listens. */
  static async open(
    port: number | undefined,
    onCommand: (command: Command) => void,
  ): Promise<ManagementChannel> {
    if (port === undefined) return new ManagementChannel(null);
    const socket = connect({ host: "127.0.0.1", port, noDelay: true });
    await once(socket, "connect");
    // A client that went away does not end a transfer: the real one goes on as well.
    socket.on("error", () => undefined);
    readCommands(socket, onCommand);
    return new ManagementChannel(socket);
  }

  /** From now on frames are cut at odd places. */
  cutFrames(pieces: () => number): void {
    this.#pieces = pieces;
  }

  send(type: string, fields: Fields = {}): Promise<void> {
    const lines = Object.entries(fields)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]) => `${key}: ${typeof value === "boolean" ? (value ? "Yes" : "No") : value}\n`);
    const frame = Buffer.from(`FASPMGR 2\nType: ${type}\n${lines.join("")}\n`);
    this.#writing = this.#writing.then(() => this.#write(frame));
    return this.#writing;
  }

  /** Everything is handed over and the connection is closed. */
  async close(): Promise<void> {
    await this.#writing;
    const socket = this.#socket;
    if (socket === null || socket.destroyed) return;
    const closed = once(socket, "close");
    socket.end();
    // The client may keep its side open; it has all that is to come.
    const timer = setTimeout(() => socket.destroy(), 500);
    await closed;
    clearTimeout(timer);
  }

  async #write(frame: Buffer): Promise<void> {
    if (this.#socket === null) return;
    const pieces = this.#pieces;
    if (pieces === null) return this.#put(frame);
    for (let at = 0; at < frame.length; ) {
      const end = at + pieces();
      await this.#put(frame.subarray(at, end));
      // A turn of the loop between two writes, so that they are two segments.
      await new Promise((resolve) => setImmediate(resolve));
      at = end;
    }
  }

  #put(bytes: Buffer): Promise<void> {
    return new Promise((resolve) => {
      if (this.#socket === null || this.#socket.destroyed) return resolve();
      this.#socket.write(bytes, () => resolve());
    });
  }
}

function readCommands(socket: Socket, onCommand: (command: Command) => void): void {
  let text = "";
  socket.setEncoding("utf8").on("data", (part: string) => {
    text += part;
    for (;;) {
      const end = text.indexOf("\n\n");
      if (end < 0) return;
      const [head, ...lines] = text.slice(0, end).trimStart().split("\n");
      text = text.slice(end + 2);
      if (head !== "FASPMGR 2") continue;
      const fields = Object.fromEntries(
        lines.map((line) => {
          const colon = line.indexOf(":");
          return [line.slice(0, colon), line.slice(colon + 1).replace(/^ /, "")];
        }),
      );
      onCommand({ type: fields.Type ?? "", fields });
    }
  });
}

/** Path values: newline, carriage return and escape are escaped (newer releases of ascp 4). */
export const escapePath = (path: string): string =>
  path.replaceAll("\x1b", "\x1b\x1b").replaceAll("\n", "\x1bn").replaceAll("\r", "\x1br");
