/** Manifests in XML, which name further manifests by URL (TCIA/data-retriever core/app/tcia_manifest_test.go). */
import { createReadStream } from "node:fs";
import { RunError } from "../errors.ts";
import { onDisk } from "../lib/durable-file.ts";
import { type Found, type FoundBatches, quoted } from "./found.ts";
import { readXml } from "./xml-events.ts";

/**
 * `<TCIACollection apiVersion="v2"><Downloads><URL>…`. Throws `bad-selection` for other XML, and for a manifest that
 * names nothing.
 */
export async function* readXmlManifest(path: string, name: string): FoundBatches {
  let found: Found[] = [];
  let count = 0;
  let root = true;
  let inDownloads = 0;
  /** Text of the `URL` that is open, null outside. */
  let url: string | null = null;
  let urlLine = 0;
  const events = readXml(fileChunks(path), name, (position) => ({
    open(tag) {
      if (root) checkRoot(tag, name);
      root = false;
      if (tag === "Downloads") inDownloads += 1;
      if (tag !== "URL" || inDownloads === 0) return;
      url = "";
      urlLine = position.line;
    },
    close(tag) {
      if (tag === "Downloads") inDownloads -= 1;
      if (tag !== "URL" || url === null) return;
      count += 1;
      found.push({ kind: "further", at: `:${urlLine}`, target: url.trim() });
      url = null;
    },
    text(text) {
      if (url !== null) url += text;
    },
  }));
  for await (const _ of events) {
    if (found.length > 0) yield found;
    found = [];
  }
  if (count === 0)
    throw new RunError("bad-selection", `${name} is a manifest that names no further one`, {
      hint: "its Downloads should hold a URL each",
    });
}

function checkRoot(tag: string, name: string): void {
  if (tag === "TCIACollection") return;
  if (/^html$/iu.test(tag))
    throw new RunError(
      "bad-selection",
      `${name} is a web page, no selection: perhaps a login page was saved`,
    );
  if (tag === "jnlp")
    throw new RunError(
      "bad-selection",
      `${name} is a launch file of the old download manager (manifest version 1 or 2), which is not read`,
      { hint: "make a new manifest on the archive's site, or list the series UIDs in a text file" },
    );
  throw new RunError("bad-selection", `${name} is XML, but no manifest: it begins with ${quoted(tag)}`, {
    hint: "manifests begin with TCIACollection",
  });
}

export async function* fileChunks(path: string): AsyncGenerator<Uint8Array> {
  const stream = createReadStream(path, { highWaterMark: 256 * 1024 });
  const chunks = (stream as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await onDisk({ operation: "read", path }, () => chunks.next());
      if (next.done) return;
      yield next.value;
    }
  } finally {
    stream.destroy();
  }
}
