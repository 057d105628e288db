/** Endpoints that give images and their sums. */
import { createHash } from "node:crypto";
import type { SandboxSeries } from "../../../sandbox/data/dataset.ts";
import type { Fault } from "../../../sandbox/faults.ts";
import type { Reply } from "../../../sandbox/stand-ins.ts";
import { badRequest, NOTHING, politely, serverError } from "./format.ts";
import { otherDigest, singleImageReply, type ZipShape, zipOf, zipReply } from "./images.ts";
import type { KeptZips } from "./kept-zips.ts";
import {
  type ArchiveView,
  type Call,
  FILTERS,
  type NamedEndpoint,
  REQUIRED,
  SEARCHES,
  text,
} from "./view.ts";

export function* downloadEndpoints(view: ArchiveView, kept: KeptZips): Iterable<NamedEndpoint> {
  const yes = (text: string | null, word: string) => text?.toLowerCase() === word;
  const zips: readonly [name: string, allowed: readonly string[], shape: (call: Call) => ZipShape][] = [
    [
      "getImage",
      ["SeriesInstanceUID", "NewFileNames", "IncludeMD5"],
      (call) => ({
        license: true,
        newFileNames: yes(call.query("NewFileNames"), "yes"),
        hashes: call.api === "v4" && yes(call.query("IncludeMD5"), "yes"),
      }),
    ],
    [
      "getImageWithMD5Hash",
      ["SeriesInstanceUID"],
      () => ({ license: false, newFileNames: false, hashes: true }),
    ],
    [
      "getDCMImage",
      ["SeriesInstanceUID", "IncludeAnnotation", "MD5Verification"],
      (call) => ({
        license: false,
        newFileNames: true,
        hashes: yes(call.query("MD5Verification"), "true"),
      }),
    ],
  ];
  for (const [name, allowed, shape] of zips) {
    yield [
      name,
      {
        apis: SEARCHES,
        verb: "GET",
        serves: "zip",
        allowed,
        run: async (call) => {
          const series = requested(view, call);
          return "status" in series ? series : zipReplyOf(view, kept, series, shape(call), call.fault);
        },
      },
    ];
  }
  yield [
    "getImageOther",
    {
      apis: ["v1", "v4"],
      verb: "GET",
      serves: "zip",
      allowed: ["SeriesInstanceUID"],
      run: (call) => {
        const series = requested(view, call);
        if ("status" in series) return series;
        return zipReply(series.seriesInstanceUid, emptyZip());
      },
    },
  ];
  yield [
    "getSingleImage",
    {
      apis: SEARCHES,
      verb: "GET",
      serves: "file",
      allowed: ["SeriesInstanceUID", "SOPInstanceUID"],
      run: (call) => {
        const sop = call.query("SOPInstanceUID");
        if (sop === null || call.query("SeriesInstanceUID") === null) return badRequest(REQUIRED.singleImage);
        const series = requested(view, call);
        if ("status" in series) return series;
        const image = series.instances().find(({ sopInstanceUid }) => sopInstanceUid === sop);
        if (image === undefined || call.host === "nlst") return serverError(null);
        return singleImageReply(image, call.fault);
      },
    },
  ];
  const digest = (parameter: string) => async (call: Call) => {
    const sop = call.query(parameter);
    if (sop === null) return badRequest(`A parameter, ${parameter}, is required for this API call.`);
    const image = await view.findImage(call, sop);
    if (image === undefined) return serverError(null);
    const md5 = await image.md5();
    return text(call.fault?.kind === "wrong-md5" ? otherDigest(md5) : md5);
  };
  // The letter D is missing in the older name, and its parameter ends in a small d.
  yield [
    "getM5HashForImage",
    { apis: ["v1", "v2"], verb: "GET", serves: "digest", run: digest("SOPInstanceUid") },
  ];
  yield [
    "getMD5HashForImage",
    {
      apis: ["v4"],
      verb: "GET",
      serves: "digest",
      allowed: ["SOPInstanceUID"],
      run: digest("SOPInstanceUID"),
    },
  ];
  yield [
    "getMD5Hierarchy",
    {
      apis: ["v4", "advanced"],
      verb: "POST",
      serves: "digest",
      allowed: ["SeriesInstanceUID", "StudyInstanceUID", "PatientID", "Collection"],
      run: (call) => hierarchyDigest(view, call),
    },
  ];
}

/** The series of an image endpoint, or the refusal: always 400, never 403 or 404. */
function requested(view: ArchiveView, call: Call): SandboxSeries | Reply {
  const uid = call.query("SeriesInstanceUID");
  if (uid === null) return badRequest(REQUIRED.series);
  const series = view.find(call, uid);
  if (series !== undefined) return series;
  return badRequest(
    call.api === "v1"
      ? `Image with given SeriesInstanceUID,${uid}, is not in public domain.`
      : `The user has not been granted the access to image with given SeriesInstanceUID,${uid}. Please contact System Admin to resolve this issue.`,
  );
}

async function zipReplyOf(
  view: ArchiveView,
  kept: KeptZips,
  series: SandboxSeries,
  shape: ZipShape,
  fault: Fault | undefined,
): Promise<Reply> {
  const keep = view.world.precompute && fault === undefined;
  const body = keep ? await keptZip(view, kept, series, shape) : zipOf(series, shape, fault);
  return zipReply(series.seriesInstanceUid, body);
}

/** The finished zip of a series, built on the first call. */
export function keptZip(
  view: ArchiveView,
  kept: KeptZips,
  series: SandboxSeries,
  shape: ZipShape,
): Promise<AsyncIterable<Uint8Array>> {
  const key = [
    series.seriesInstanceUid,
    view.world.dataset.revisionOf(series.seriesInstanceUid),
    ...Object.values(shape),
  ].join(" ");
  return kept.get(key, () => zipOf(series, shape));
}

/** MD5 over the sorted, concatenated MD5s of the level below, up to the collection (restUtil/MD5Util.java). */
async function hierarchyDigest(view: ArchiveView, call: Call): Promise<Reply> {
  const form = call.request.form;
  const level = ["SeriesInstanceUID", "StudyInstanceUID", "PatientID", "Collection"].find((name) =>
    form.has(name),
  );
  if (level === undefined) return badRequest("A parameter is required for this API call.");
  const wanted = form.get(level)!;
  const cell = FILTERS[level]!;
  const levels = [
    (s: SandboxSeries) => s.studyInstanceUid,
    (s: SandboxSeries) => s.patientId,
    (s: SandboxSeries) => s.collection,
  ];
  let digests: { series: SandboxSeries; md5: string }[] = [];
  for await (const series of politely(view.world.dataset.series(), 64)) {
    if (!view.sees(call, series) || cell(series) !== wanted) continue;
    const images = await Promise.all(series.instances().map((image) => image.md5()));
    digests.push({ series, md5: combined(images) });
  }
  if (digests.length === 0) return NOTHING;
  const depth = ["SeriesInstanceUID", "StudyInstanceUID", "PatientID", "Collection"].indexOf(level);
  for (const parent of levels.slice(0, depth)) {
    const groups = new Map<string, typeof digests>();
    for (const digest of digests) {
      const key = parent(digest.series);
      groups.set(key, [...(groups.get(key) ?? []), digest]);
    }
    digests = [...groups.values()].map((group) => ({
      series: group[0]!.series,
      md5: combined(group.map(({ md5 }) => md5)),
    }));
  }
  return text(digests[0]!.md5);
}

const combined = (digests: readonly string[]) =>
  createHash("md5").update(digests.toSorted().join("")).digest("hex");

/** End record of a zip without entries (PKWARE APPNOTE.TXT 4.3.16). */
async function* emptyZip(): AsyncIterable<Uint8Array> {
  yield Buffer.from("504b0506".padEnd(44, "0"), "hex");
}
