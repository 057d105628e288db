/**
 * One process of ascp, from its start to its end, driven through its management channel. It is started by a small shell
 * script that ends it when this process is gone, however that happened: nothing transfers that nobody watches.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { constants } from "node:os";
import { RunError } from "../../errors.ts";
import { ascpFailure } from "./failures.ts";
import { buildFrame, createFrameReader, type Frame } from "./management.ts";

/**
 * Standard input is a pipe that this process holds and never writes to: it ends when the process does. ascp itself has an
 * empty standard input and no terminal (a session of its own), so that it can ask nobody anything.
 */
const GUARD = `
exec 3<&0 0</dev/null
trap : TERM INT HUP
"$@" 3<&- &
p=$!
( while read -r _ <&3; do :; done; kill -TERM $p; sleep 3; kill -KILL $p ) >/dev/null 2>&1 &
w=$!
exec 3<&-
while :; do wait $p; s=$?; kill -0 $p 2>/dev/null || break; done
kill $w 2>/dev/null
exit $s
`;
/** What is kept of the words that ascp says, each of its two outputs. */
const KEPT_CHARACTERS = 8_000;
/** From a finished channel to the end of the process. */
const END_MS = 5_000;
/** From a polite request to the next, ruder one. */
const GRACE_MS = 2_000;
const PROMPT = /(?:password|passphrase)[^\n]*:\s*$/iu;

export interface SessionOptions {
  readonly program: string;
  /** All of them, the destination last, without `-M`. */
  readonly args: readonly string[];
  /** The whole environment. */
  readonly environment: Readonly<Record<string, string>>;
  /** What sentences are about, e.g. the host. */
  readonly where: string;
  readonly redact: (text: string) => string;
  readonly onFrame: (frame: Frame) => void;
}

export class AscpSession {
  readonly #options: SessionOptions;
  readonly #server: Server;
  readonly #child: ChildProcess;
  #socket: Socket | null = null;
  #final: Frame | null = null;
  #rate: number | null = null;
  #output = "";
  #failure: RunError | null = null;
  #killing: Promise<void> | null = null;
  /** Settles when the process has gone; rejects with what the session failed of. */
  readonly ended: Promise<Frame>;

  static async start(options: SessionOptions): Promise<AscpSession> {
    const server = createServer({ pauseOnConnect: false });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return new AscpSession(options, server);
  }

  private constructor(options: SessionOptions, server: Server) {
    this.#options = options;
    this.#server = server;
    const address = server.address();
    const port = typeof address === "object" && address ? address.port : 0;
    const call = [options.program, "-M", String(port), ...options.args];
    const guarded = process.platform !== "win32";
    const [file, args] = guarded
      ? ["/bin/sh", ["-c", GUARD, "ascp-guard", ...call]]
      : [call[0] as string, call.slice(1)];
    server.on("connection", (socket) => this.#connected(socket));
    this.#child = spawn(file, args, {
      env: options.environment,
      stdio: [guarded ? "pipe" : "ignore", "pipe", "pipe"],
      detached: guarded,
      windowsHide: true,
    });
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream?.setEncoding("utf8").on("data", (text: string) => this.#said(text));
    this.#child.stdin?.on("error", () => undefined);
    this.ended = this.#watch();
    this.ended.catch(() => undefined);
  }

  /** A new target rate, while it runs; told when it listens. */
  setRate(kbps: number): void {
    this.#rate = Math.max(1, Math.floor(kbps));
    this.#sendRate();
  }

  #sendRate(): void {
    if (this.#rate !== null) this.#send({ Type: "RATE", Rate: String(this.#rate) });
  }

  /** Frames wait until `resume`. */
  pause(): void {
    this.#socket?.pause();
  }

  resume(): void {
    this.#socket?.resume();
  }

  /** Ends it, ever more firmly; resolves when it has gone. `ended` then rejects with the first reason given. */
  async stop(reason: RunError): Promise<void> {
    this.#failure ??= reason;
    this.#killing ??= this.#kill();
    await this.#killing;
  }

  async #kill(): Promise<void> {
    this.#send({ Type: "CANCEL" });
    this.resume();
    for (const signal of [null, "SIGTERM", "SIGKILL"] as const) {
      if (signal) this.#signal(signal);
      if (await this.#goneWithin(signal === "SIGKILL" ? 60_000 : GRACE_MS)) return;
    }
  }

  async #goneWithin(ms: number): Promise<boolean> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<false>((resolve) => {
      timer = setTimeout(() => resolve(false), ms);
    });
    const gone = this.ended.then(
      () => true as const,
      () => true as const,
    );
    const result = await Promise.race([gone, late]);
    clearTimeout(timer);
    return result;
  }

  /** To the guard and to ascp alike. */
  #signal(signal: NodeJS.Signals): void {
    const { pid } = this.#child;
    if (pid === undefined) return;
    try {
      process.kill(process.platform === "win32" ? pid : -pid, signal);
    } catch {
      // It has gone already.
    }
  }

  #send(fields: Frame): void {
    const socket = this.#socket;
    if (socket?.writable) socket.write(buildFrame(fields));
  }

  #connected(socket: Socket): void {
    // One process, one connection; whoever else comes is nobody we know.
    if (this.#socket) {
      socket.destroy();
      return;
    }
    this.#socket = socket;
    const read = createFrameReader();
    this.#sendRate();
    socket.on("error", () => undefined);
    socket.on("data", (bytes) => {
      for (const frame of read(bytes)) {
        if (frame.Type === "DONE" || frame.Type === "ERROR") this.#final = frame;
        this.#options.onFrame(frame);
      }
    });
    socket.on("close", () => {
      // The reference client sends SIGINT when the channel has closed; most programs are gone by then.
      const timer = setTimeout(() => this.#signal("SIGINT"), END_MS);
      const last = setTimeout(() => this.#signal("SIGKILL"), 3 * END_MS);
      this.#child.once("exit", () => {
        clearTimeout(timer);
        clearTimeout(last);
      });
    });
  }

  #said(text: string): void {
    this.#output = (this.#output + text).slice(-KEPT_CHARACTERS);
    // It would wait for an answer for ever.
    if (PROMPT.test(this.#output)) void this.stop(ascpFailure(0, this.#lastWords(), this.#options.where));
  }

  async #watch(): Promise<Frame> {
    const { where } = this.#options;
    const child = this.#child;
    const exit = await new Promise<number | Error>((resolve) => {
      child.once("error", resolve);
      child.once("close", (code, signal) =>
        resolve(code ?? 128 + (constants.signals[signal ?? "SIGKILL"] ?? 0)),
      );
      // `close` waits for whoever has inherited the outputs.
      child.once("exit", () => setTimeout(() => child.stdout?.destroy(), 1000).unref());
      child.once("exit", () => setTimeout(() => child.stderr?.destroy(), 1000).unref());
    });
    // Whatever became of the guard, nothing of its group is left.
    this.#signal("SIGKILL");
    await this.#drained();
    this.#server.close();
    if (exit instanceof Error) {
      const sentence = `${this.#options.program} can't be started: ${exit.message}`;
      throw new RunError("usage", sentence, {
        hint: "name another ascp with --ascp, or `gantry ascp install`",
      });
    }
    if (this.#failure) throw this.#failure;
    const final = this.#final;
    if (final?.Type === "ERROR") {
      const text = this.#options.redact(final.Description ?? "");
      throw ascpFailure(Number(final.Code) || 0, text, where);
    }
    if (final?.Type === "DONE" && exit === 0) return final;
    if (exit === 126 || exit === 127) {
      const sentence = `${this.#options.program} can't be run here: ${this.#lastWords() || `exit ${exit}`}`;
      throw new RunError("usage", sentence, {
        hint: "`gantry ascp info` looks at it; `gantry ascp install` gets another",
      });
    }
    const what = final
      ? `ascp reported that all is done and then ended with exit ${exit}`
      : `ascp ended with exit ${exit} without a report`;
    const words = this.#lastWords();
    // By whoever looks after the machine's memory, or after its users: the last words are the guard's, if any.
    if (!final && exit > 128)
      throw new RunError("archive-cut", `${where}: ascp was ended by signal ${exit - 128}`);
    if (!final && words !== "") throw ascpFailure(0, words, where);
    throw new RunError("archive-cut", `${where}: ${what}${words === "" ? "" : `: ${words}`}`);
  }

  /** What is in the channel has been read when this resolves. */
  async #drained(): Promise<void> {
    const socket = this.#socket;
    if (!socket || socket.closed) return;
    const closed = once(socket, "close").catch(() => undefined);
    socket.resume();
    const timer = setTimeout(() => socket.destroy(), 1000);
    await closed;
    clearTimeout(timer);
  }

  #lastWords(): string {
    const lines = this.#output.split(/[\r\n]+/u).filter((line) => line.trim() !== "");
    return this.#options.redact(lines.slice(-3).join(" ").replaceAll(/\s+/gu, " ").trim().slice(-400));
  }
}
