/** Uploads: files on this disk that grow into a tree which others can list and fetch. */
import { randomUUID } from "node:crypto";
import { createReadStream, createWriteStream, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { folderOf, type TreeFolder, targetOf } from "../data/packages.ts";
import type { Inbox } from "./transfer-server.ts";

/** Where the bytes of uploads are kept until the sandbox ends; made when the first comes. */
export class UploadStore {
  #folder: string | undefined;

  /** Uploads at a path below `root` are children of it. */
  inboxOf(root: TreeFolder, more: Pick<Inbox, "ended"> = {}): Inbox {
    return {
      ...more,
      store: async (path, modifiedMs, content) => {
        this.#folder ??= mkdtempSync(join(tmpdir(), "gantry-sandbox-uploads-"));
        const kept = join(this.#folder, randomUUID());
        const sink = createWriteStream(kept);
        await pipeline(content, sink);
        const names = path.split("/").filter((name) => name !== "" && name !== ".");
        const name = names.pop();
        if (name === undefined) throw new Error("an upload needs a name");
        folderAt(root, names, modifiedMs).children.set(name, {
          kind: "file",
          name,
          modifiedMs,
          sizeBytes: sink.bytesWritten,
          read: (from = 0) => createReadStream(kept, { start: from, highWaterMark: 256 * 1024 }),
        });
      },
    };
  }

  close(): void {
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true });
    this.#folder = undefined;
  }
}

function folderAt(root: TreeFolder, names: readonly string[], modifiedMs: number): TreeFolder {
  let folder = root;
  for (const name of names) {
    const child = targetOf(folder.children.get(name));
    if (child?.kind === "folder") folder = child;
    else {
      const made = folderOf(name, modifiedMs);
      folder.children.set(name, made);
      folder = made;
    }
  }
  return folder;
}
