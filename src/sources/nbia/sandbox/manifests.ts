/** Endpoints that write `.tcia` manifests (CBIIT/NBIA-TCIA software/nbia-api restUtil/ManifestMaker.java). */
import type { Reply } from "../../../sandbox/stand-ins.ts";
import { badRequest } from "./format.ts";
import { type ArchiveView, type Call, type NamedEndpoint, REQUIRED } from "./view.ts";

export function* manifestEndpoints(view: ArchiveView): Iterable<NamedEndpoint> {
  for (const [name, api] of [
    ["getManifestText", "v4"],
    ["getManifestTextV2", "advanced"],
  ] as const) {
    yield [
      name,
      {
        apis: [api],
        verb: "POST",
        serves: "page",
        allowed: ["list", "includeAnnotation"],
        run: (call) => {
          const uids = call.request.form.getAll("list").filter((uid) => uid !== "");
          return uids.length === 0 ? badRequest(REQUIRED.list) : manifest(call, uids);
        },
      },
    ];
  }
  yield [
    "getManifestForCollection",
    {
      apis: ["v4", "advanced"],
      verb: "POST",
      serves: "page",
      allowed: ["collection", "visibility", "includeAnnotation"],
      run: async (call) => {
        const wanted = call.request.form.get("collection")?.toUpperCase();
        const uids: string[] = [];
        const found = view.series(call, ({ collection }) => collection.toUpperCase() === wanted);
        for await (const { seriesInstanceUid } of found) uids.push(seriesInstanceUid);
        return manifest(call, uids);
      },
    },
  ];
}

export function manifest(call: Call, uids: readonly string[]): Reply {
  const scheme = "encrypted" in call.request.incoming.socket ? "https" : "http";
  const host = `${scheme}://${call.request.headers.host ?? "127.0.0.1"}${call.host === "nlst" ? "/nlst" : ""}`;
  const lines = [
    `downloadServerUrl=${host}/nbia-download/servlet/DownloadServlet`,
    `includeAnnotation=${call.request.form.get("includeAnnotation") ?? "false"}`,
    "noOfrRetry=4",
    `databasketId=manifest-${Date.now()}.tcia`,
    "manifestVersion=3.0",
    "ListOfSeriesToDownload=",
    ...uids,
  ];
  const headers = { "Content-Type": "application/x-nbia-manifest-file" };
  return { status: 200, headers, body: `${lines.join("\n")}\n` };
}
