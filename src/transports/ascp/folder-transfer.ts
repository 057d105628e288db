/** A transfer whose result is all that it leaves in a folder of its own: of what a server lists nowhere. */
import { mkdir, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import { makeFolder } from "../../lib/durable-file.ts";
import type { Ascp } from "./ascp.ts";
import { leaveLinkedFiles, type ReceivedFile, receivedFiles } from "./received-files.ts";
import type { TransferSpec } from "./transfer-spec.ts";

export interface FolderTransferOptions {
  readonly ascp: Ascp;
  /** The same in each try, so that one goes on with what another has left. */
  readonly folder: string;
  /** Which try this is, from 0. */
  readonly attempt: number;
  /** Told of bytes that lie in the folder, and of all of them, negative, at the end. */
  readonly onArrived?: ((bytes: number) => void) | undefined;
  /** Told of the size of the whole, where ascp counts first. */
  readonly onPromised?: ((bytes: number) => void) | undefined;
}

export class FolderTransfer {
  readonly #options: FolderTransferOptions;
  /** By path below the folder: what ascp says that the size is. */
  readonly #told = new Map<string, number>();
  #files: number | null = null;
  #bytes: number | null = 0;
  #waiting = 0;

  constructor(options: FolderTransferOptions) {
    this.#options = options;
  }

  /** How many files there are by ascp's own count; null: it does not count. */
  get files(): number | null {
    return this.#files;
  }

  /** Their size together as ascp tells it, known once all were read; null: it tells none, or that of encrypted ones. */
  get bytes(): number | null {
    return this.#bytes;
  }

  /** Throws what the transfer throws; the failure of one file is that of the whole. */
  async receive(spec: TransferSpec, context: Context): Promise<void> {
    const { ascp, folder, attempt, onPromised } = this.#options;
    await makeFolder(dirname(folder), { mode: 0o700 });
    if (spec.resume_policy === "none") await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await leaveLinkedFiles(folder);
    let failure: RunError | null = null;
    let promised: number | null = null;
    try {
      for await (const event of ascp.transfer({ spec, folder, patience: attempt + 1 }, context)) {
        if (event.type === "progress") this.#arrived(event.bytes - this.#waiting);
        else if (event.type === "totals") {
          promised = event.files;
          onPromised?.(event.bytes);
        } else if (event.type === "file" && event.bytes !== null)
          this.#told.set(this.#nameOf(event.path), event.bytes);
        else if (event.type === "file-failed") failure ??= event.error;
        else if (event.type === "done") this.#files = promised || event.files;
      }
    } catch (error) {
      // What one file failed of says more than that some did.
      throw failure ?? error;
    } finally {
      this.#arrived(-this.#waiting);
    }
    if (failure) throw failure;
  }

  /** What has come, by name. Throws `proof-size`, `proof-format`. */
  async *received(): AsyncGenerator<ReceivedFile> {
    const { ascp, folder } = this.#options;
    for await (const file of receivedFiles(folder)) {
      const told = this.#told.get(file.name);
      // Of encrypted files the server knows another size than that of what came out of them.
      if (told === undefined || ascp.decrypts || this.#bytes === null) this.#bytes = null;
      else this.#bytes += told;
      if (told !== undefined && !ascp.decrypts && told !== file.bytes)
        throw new RunError("proof-size", `${file.name} has ${file.bytes} bytes, and ascp says ${told}`);
      yield file;
    }
  }

  #arrived(bytes: number): void {
    this.#waiting += bytes;
    this.#options.onArrived?.(bytes);
  }

  /** ascp names files as they lie here, or relative to the destination. */
  #nameOf(path: string): string {
    const { folder } = this.#options;
    return path.startsWith(`${folder}/`) ? path.slice(folder.length + 1) : path;
  }
}
