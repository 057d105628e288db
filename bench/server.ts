/**
 * The archive of one workload, in a process of its own: all replies are made before the first is asked for, so that
 * the server is not what is measured. With a second word it is behind a link of so many bytes a second. Prints one line
 * of JSON when ready; ends when its stdin does.
 */

import { openLink } from "./link.ts";
import { productModule } from "./product.ts";
import { buildWorkload, workloadOf } from "./workloads.ts";

export interface ServerFacts {
  readonly url: string;
  readonly seriesUids: readonly string[];
  readonly pixels: string;
  /** Of all replies together. */
  readonly zipBytes: number;
}

const { startSandbox } = await productModule<typeof import("../src/sandbox/server.ts")>("sandbox/server.js");
const { data, pixels } = await buildWorkload(workloadOf(process.argv[2] ?? ""));
const sandbox = await startSandbox({ data, precompute: true });
await sandbox.control.precompute();
const url = sandbox.archives.find(({ name }) => name === "tcia")?.url ?? "";
const seriesUids = [...data.series()].map((series) => series.seriesInstanceUid).sort();
let zipBytes = 0;
for (const uid of seriesUids) {
  const reply = await fetch(imageUrl(url, uid));
  for await (const chunk of reply.body ?? []) zipBytes += (chunk as Uint8Array).length;
}
const rate = Number(process.argv[3]);
const shown = rate > 0 ? (await openLink(new URL(url), rate)).href : url;
const facts: ServerFacts = { url: shown, seriesUids, pixels, zipBytes };
process.stdout.write(`${JSON.stringify(facts)}\n`);
process.stdin.resume().on("end", () => {
  void sandbox.close().then(() => process.exit(0));
});

function imageUrl(archive: string, uid: string): string {
  return `${archive}/services/v4/getImage?SeriesInstanceUID=${uid}&NewFileNames=Yes&IncludeMD5=Yes`;
}
