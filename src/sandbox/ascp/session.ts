/** One transfer of the stand-in ascp: what it has counted, how fast it may go, how it was told to misbehave. */
import type { Misbehaviour } from "../fasp/wire.ts";
import type { Arguments } from "./arguments.ts";
import { escapePath, type ManagementChannel } from "./management.ts";

/** Ends the session with a code of ascp's table. */
export class SessionError extends Error {
  readonly code: number;
  constructor(code: number, description: string) {
    super(description);
    this.code = code;
  }
}

/** Not played as an error: the process ends at once, with this status, and without a last frame. */
export class Vanish extends Error {
  readonly status: number;
  constructor(status: number) {
    super("vanish");
    this.status = status;
  }
}

export interface FileState {
  readonly path: string;
  readonly sizeBytes: number;
  /** Where this session began in it. */
  readonly startByte: number;
  written: number;
  readonly id: number;
}

const STATS_EVERY_MS = 100;

export class Session {
  readonly args: Arguments;
  readonly channel: ManagementChannel;
  readonly misbehaviour: Misbehaviour | null;
  readonly id: string;
  readonly started = performance.now();
  /** kbps; null: as fast as it goes. */
  #rateKbps: number | null;
  #paceSince = performance.now();
  #paceBytes = 0;
  #lastStats = Number.NEGATIVE_INFINITY;
  #files = 0;
  readonly #quiet: boolean;
  readonly counts = {
    transferBytes: 0,
    fileBytes: 0,
    attempted: 0,
    failed: 0,
    passed: 0,
    skipped: 0,
    dirsMade: 0,
    argsDone: 0,
    args: 0,
    scanned: 0,
    irregular: 0,
  };
  /** Aborted by CANCEL and by signals. */
  readonly cancel: AbortController;

  constructor(options: {
    readonly args: Arguments;
    readonly channel: ManagementChannel;
    readonly misbehaviour: Misbehaviour | null;
    readonly id: string;
    readonly rateKbps: number | null;
    readonly cancel: AbortController;
  }) {
    this.cancel = options.cancel;
    this.args = options.args;
    this.channel = options.channel;
    this.misbehaviour = options.misbehaviour;
    this.id = options.id;
    this.#rateKbps = options.rateKbps;
    this.#quiet = options.args.options.has("quiet");
  }

  async setRate(rateKbps: number): Promise<void> {
    this.#rateKbps = rateKbps;
    this.#paceSince = performance.now();
    this.#paceBytes = 0;
    await this.channel.send("NOTIFICATION", { SessionId: this.id, Rate: rateKbps });
  }

  beginFile(path: string, sizeBytes: number, startByte: number): FileState {
    this.counts.attempted++;
    this.counts.fileBytes += startByte;
    return { path, sizeBytes, startByte, written: startByte, id: ++this.#files };
  }

  /** Before so many bytes are moved: waits for the rate, plays what the sandbox wants played, tells of progress. */
  async moving(file: FileState, bytes: number): Promise<void> {
    await this.play();
    this.cancel.signal.throwIfAborted();
    file.written += bytes;
    this.counts.transferBytes += bytes;
    this.counts.fileBytes += bytes;
    this.#paceBytes += bytes;
    const now = performance.now();
    if (now - this.#lastStats >= STATS_EVERY_MS) {
      this.#lastStats = now;
      await this.stats(file);
    }
    if (this.#rateKbps !== null) {
      // In short steps, so that a change of the rate holds at once.
      for (;;) {
        const dueMs = (this.#paceBytes * 8) / Math.max(1, this.#rateKbps);
        const leftMs = dueMs - (performance.now() - this.#paceSince);
        if (leftMs <= 0) break;
        await pause(Math.min(leftMs, 50), this.cancel.signal);
      }
    }
  }

  /** Plays the fault that is due. */
  async play(): Promise<void> {
    const { misbehaviour: play } = this;
    if (play === null || this.counts.transferBytes < (play.afterBytes ?? 0)) return;
    switch (play.kind) {
      case "ascp-error":
        throw new SessionError(
          play.code ?? 39,
          play.description ?? "Server aborted session: played by the sandbox",
        );
      case "ascp-hang":
        await pause(2 ** 31 - 1, this.cancel.signal);
        break;
      case "ascp-killed":
        process.kill(process.pid, "SIGKILL");
        await pause(2 ** 31 - 1, this.cancel.signal);
        break;
      case "ascp-no-final-frame":
        if (play.afterBytes !== undefined) throw new Vanish(0);
        break;
      default:
        break;
    }
  }

  async stats(file: FileState): Promise<void> {
    const { counts } = this;
    await this.channel.send("STATS", {
      SessionId: this.id,
      File: escapePath(file.path),
      Size: file.sizeBytes,
      Written: file.written,
      StartByte: file.startByte,
      Bytescont: file.written,
      TransferBytes: counts.transferBytes,
      FileBytes: counts.fileBytes,
      Rate: Math.round((counts.transferBytes * 8) / Math.max(1, performance.now() - this.started)),
      Loss: "0.00",
      Delay: 1,
      Elapsedusec: this.elapsedUsec(),
      FaspFileID: file.id,
    });
    if (!this.#quiet) {
      const percent = file.sizeBytes === 0 ? 100 : Math.floor((100 * file.written) / file.sizeBytes);
      process.stdout.write(`\r${file.path}  ${percent}% ${Math.ceil(file.sizeBytes / 1024)}KB`);
    }
  }

  async endFile(file: FileState): Promise<void> {
    this.counts.passed++;
    await this.stats(file);
    await this.channel.send("STOP", {
      SessionId: this.id,
      File: escapePath(file.path),
      Size: file.sizeBytes,
      Written: file.written - file.startByte,
      StartByte: file.startByte,
      FileChecksumType: "none",
      FaspFileID: file.id,
    });
    if (!this.#quiet) process.stdout.write("\n");
  }

  async failFile(path: string, code: number, description: string): Promise<void> {
    this.counts.failed++;
    await this.channel.send("FILEERROR", {
      SessionId: this.id,
      File: escapePath(path),
      Code: code,
      Description: description,
    });
  }

  totals(): Record<string, number> {
    const { counts } = this;
    return {
      TransferBytes: counts.transferBytes,
      FileBytes: counts.fileBytes,
      ArgScansAttempted: counts.args,
      ArgScansCompleted: counts.argsDone,
      PathScansAttempted: counts.scanned,
      PathScansFailed: 0,
      PathScansIrregular: counts.irregular,
      PathScansExcluded: 0,
      DirScansCompleted: counts.dirsMade,
      FileScansCompleted: counts.attempted + counts.skipped,
      DirCreatesAttempted: counts.dirsMade,
      DirCreatesFailed: 0,
      DirCreatesPassed: counts.dirsMade,
      TransfersAttempted: counts.attempted,
      TransfersFailed: counts.failed,
      TransfersPassed: counts.passed,
      TransfersSkipped: counts.skipped,
      Elapsedusec: this.elapsedUsec(),
    };
  }

  elapsedUsec(): number {
    return Math.round((performance.now() - this.started) * 1000);
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, ms);
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
}
