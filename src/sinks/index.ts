/** The register of stores: what `folder.json` calls a sink, and who it is. Each is loaded when it is first asked for. */
import { join } from "node:path";
import { RunError } from "../errors.ts";
import { readFileStream } from "../lib/read-file.ts";
import type { StateFolder } from "../state/state-folder.ts";
import { createFolderSink } from "./folder.ts";
import { checkFiles } from "./folder-check.ts";
import type { OpenStore, Store } from "./sink.ts";

export const openStore: OpenStore = async (state) => {
  const sink = state.facts?.sink ?? "folder";
  if (sink === "folder") return folderStore(state);
  const { PACK_FORMATS } = await import("./archive/codec.ts");
  const format = PACK_FORMATS.find((each) => each === sink);
  if (format === undefined)
    throw new RunError(
      "folder-newer",
      `${state.dir} is kept as ${JSON.stringify(sink)}, which is unknown here`,
    );
  const { ArchiveStore } = await import("./archive/archive-store.ts");
  return new ArchiveStore(state, format, state.facts?.archive ?? "data");
};

function folderStore({ dir }: StateFolder): Store {
  return {
    loose: true,
    async *join() {},
    sink: async (options) => createFolderSink({ ...options, dir }),
    check: (files, hash, signal) => checkFiles(dir, files, hash, signal),
    read: (file) => readFileStream(join(dir, file.path)),
    settle: async () => undefined,
    isUnsettled: async () => false,
  };
}
