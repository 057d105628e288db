/**
 * Family F: one script per address behind Apache's rewrite rules, as the PREVENT-AD fork of LORIS 20.1 has it
 * (loris.md sections 1 to 6). Version segment `v0.0.3-dev` only; read-only; any account reads all.
 */
import { createGzip } from "node:zlib";
import type { StudyFile, StudyImage } from "../../../sandbox/data/studies.ts";
import type { Fault } from "../../../sandbox/faults.ts";
import type { Reply, Route, SandboxRequest } from "../../../sandbox/stand-ins.ts";
import {
  bidsStem,
  type Candidate,
  caveatRows,
  type Database,
  headerSummary,
  type Visit,
} from "./database.ts";
import { fileEtag, fileReply, md5, nativeType } from "./files.ts";
import { type LoginDesk, type LoginDialect, SESSION_COOKIE } from "./login.ts";
import { apacheNotFound, phpJson } from "./reply.ts";

/** MD5 of `Bids:null`, and of the project objects: computed before there is anything to hash. */
const EXPORT_ETAG = "8241a4b1e6d135003117a3b095b974a5";
const PROJECT_ETAG = "1de6b316dc408168557545e57f506cc5";

/** The only project of a LORIS without the project feature. */
const PROJECT = "loris";

/** Apache's output filter sees the whole reply at once up to here, and can cut ranges from it. */
const ONE_BUFFER_BYTES = 8192;

const JSON_TYPE = "text/html; charset=UTF-8";

interface Answer {
  /** Allowed besides GET. */
  readonly head?: true;
  readonly serves: Route["serves"];
  run(request: SandboxRequest, database: Database, fault: Fault | undefined): Promise<Reply> | Reply;
}

export class FlatFamily {
  readonly #desk: LoginDesk;
  readonly #database: () => Promise<Database>;

  constructor(desk: LoginDesk, database: () => Promise<Database>) {
    this.#desk = desk;
    this.#database = database;
  }

  /** `path` is what follows the version segment. */
  route(path: string, { method }: SandboxRequest, base: string): Route {
    if (path === "/login") {
      const dialect: LoginDialect = {
        family: "flat",
        issuer: base,
        json: (status, value) => ({
          status,
          headers: { "Content-Type": "application/json" },
          body: phpJson(value, { escapeSlashes: true }),
        }),
      };
      if (method !== "POST")
        return { serves: "page", answer: () => ({ status: 405, headers: { Allow: "POST" } }) };
      return { serves: "token", answer: (request) => this.#desk.login(request, dialect) };
    }
    if (path === "/projects" || path === "/candidates") {
      const flag = path === "/projects" ? "PrintProjects" : "PrintCandidates";
      return {
        serves: "page",
        answer: () => ({ status: 301, headers: { Location: `${base}${path}/?${flag}=true` } }),
      };
    }
    const answer = find(path);
    if (answer === undefined) return { serves: "page", answer: apacheNotFound };
    return {
      serves: answer.serves,
      answer: (request, fault) => this.#answer(answer, request, fault),
      instead: (fault) => insteadOf(fault),
    };
  }

  async #answer(answer: Answer, request: SandboxRequest, fault: Fault | undefined): Promise<Reply> {
    const { headers, method } = request;
    if (this.#desk.identify(request, { anyCase: false, modular: false }) !== "user")
      return error(401, "User not authenticated");
    if (method !== "GET" && !(method === "HEAD" && answer.head))
      return { status: 405, headers: { Allow: answer.head ? "GET, HEAD" : "GET" } };
    const session = this.#desk.sessionOf(request);
    const leave = session === undefined ? undefined : await this.#desk.enter(session);
    try {
      let reply = await answer.run(request, await this.#database(), fault);
      const etag = reply.headers?.ETag;
      // Plain equality; the empty value of qc and headers equals an empty header.
      const seen = headers["if-none-match"];
      if (etag !== undefined && seen === etag && method === "GET" && reply.status === 200)
        reply = { status: 304, headers: { ETag: etag } };
      reply = compressed(ranged(reply, request), request);
      const cookie: Record<string, string> =
        session === undefined
          ? { "Set-Cookie": `${SESSION_COOKIE}=${this.#desk.openSession()}; path=/` }
          : {};
      reply = { ...reply, headers: { ...reply.headers, ...cookie } };
      return leave === undefined || method === "HEAD" ? reply : this.#desk.held(reply, leave);
    } catch (error) {
      leave?.();
      throw error;
    } finally {
      if (method === "HEAD") leave?.();
    }
  }
}

/** What a fault of the wire looks like here, where that differs from other archives. */
function insteadOf(fault: Fault): Reply | undefined {
  switch (fault.kind) {
    case "expired-token":
      return error(401, "User not authenticated");
    case "500":
      return { status: 500, headers: { "Content-Type": JSON_TYPE } };
    case "missing":
      return error(404, "File not found");
    default:
      return undefined;
  }
}

/** Ranges are cut from replies of one buffer only; a longer one comes whole (loris.md 4.3). */
function ranged(reply: Reply, { headers, method }: SandboxRequest): Reply {
  const length = reply.headers?.["Content-Length"];
  const range = /^bytes=(\d+)-(\d*)$/.exec(headers.range ?? "");
  if (range === null || length === undefined || Number(length) > ONE_BUFFER_BYTES || method === "HEAD")
    return reply;
  const ifRange = headers["if-range"];
  if (reply.status !== 200 || (ifRange !== undefined && ifRange !== reply.headers?.ETag)) return reply;
  const first = Number(range[1]);
  const last = Math.min(range[2] === "" ? Number(length) - 1 : Number(range[2]), Number(length) - 1);
  if (first > last) return { status: 416, headers: { "Content-Range": `bytes */${length}` } };
  async function* part(): AsyncGenerator<Uint8Array> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of reply.body as AsyncIterable<Uint8Array>) chunks.push(chunk);
    yield Buffer.concat(chunks).subarray(first, last + 1);
  }
  return {
    status: 206,
    headers: {
      ...reply.headers,
      "Content-Length": String(last - first + 1),
      "Content-Range": `bytes ${first}-${last}/${length}`,
    },
    body: part(),
  };
}

/** Apache wraps text once more for who takes gzip: chunked, without a length (loris.md 4.3). */
function compressed(reply: Reply, { headers, method }: SandboxRequest): Reply {
  const type = reply.headers?.["Content-Type"] ?? "";
  const takes = /\bgzip\b(?!\s*;\s*q=0(?:\.0*)?(?:,|\s|$))/.test(headers["accept-encoding"] ?? "");
  if (!takes || reply.status !== 200 || method === "HEAD" || !/^text\/(plain|html)/.test(type)) return reply;
  if (reply.body === undefined) return reply;
  const { "Content-Length": _length, ...kept } = reply.headers ?? {};
  const source = reply.body;
  async function* wrapped(): AsyncGenerator<Uint8Array> {
    const gzip = createGzip();
    const feed = async (): Promise<void> => {
      const parts = typeof source === "string" || source instanceof Uint8Array ? [source] : source;
      for await (const chunk of parts)
        if (!gzip.write(chunk)) await new Promise((resolve) => gzip.once("drain", resolve));
      gzip.end();
    };
    const feeding = feed().catch((error: Error) => gzip.destroy(error));
    yield* gzip as AsyncIterable<Uint8Array>;
    await feeding;
  }
  return {
    status: 200,
    headers: { ...kept, "Content-Encoding": "gzip", Vary: "Accept-Encoding" },
    body: wrapped(),
  };
}

function ok(value: unknown, etag: string): Reply {
  return {
    status: 200,
    headers: { "Content-Type": JSON_TYPE, ETag: etag },
    body: phpJson(value, { escapeSlashes: true }),
  };
}

function error(status: number, message: unknown): Reply {
  return {
    status,
    headers: { "Content-Type": JSON_TYPE },
    body: phpJson({ error: message }, { escapeSlashes: true }),
  };
}

const invalidProject = (): Reply => error(404, { error: "Invalid project" });

/** Sent through PHP; a file that is gone leaves an empty 500 that still has its ETag. */
async function sendFile(
  file: StudyFile,
  { type, etag, fault }: { type: string; etag: string; fault: Fault | undefined },
): Promise<Reply> {
  const headers = {
    "Content-Type": type,
    "Content-Disposition": `attachment; filename=${file.name}`,
    ETag: etag,
  };
  return (
    (await fileReply(file, headers, fault)) ?? {
      status: 500,
      headers: { "Content-Type": JSON_TYPE, ETag: etag },
    }
  );
}

const exportType = (name: string): string =>
  name.endsWith(".json") ? "application/json" : name.endsWith(".tsv") ? "text/tsv" : "text/plain";

/** The script behind an address, or undefined when no rewrite rule takes it. */
function find(path: string): Answer | undefined {
  return projectAnswer(path) ?? candidateAnswer(path);
}

function projectAnswer(path: string): Answer | undefined {
  const match = /^\/projects\/([\w. ]*)(\/.*)?$/.exec(decoded(path));
  if (match === null) return undefined;
  const [, name = "", rest = ""] = match;
  if (name === "")
    return rest === ""
      ? rows(() =>
          ok(
            { Projects: { [PROJECT]: { PSCID: { Type: "auto", Regex: "/^MTL[0-9]{4}$/i" } } } },
            PROJECT_ETAG,
          ),
        )
      : undefined;
  const ofProject = (run: (database: Database, request: SandboxRequest) => Reply): Answer =>
    rows((database, request) => (name === PROJECT ? run(database, request) : invalidProject()));
  const meta = { Project: PROJECT };
  switch (rest) {
    case "":
      return ofProject((database) =>
        ok(
          {
            Meta: meta,
            Candidates: [...database.candidates.keys()],
            Instruments: [],
            Visits: visitLabels(database),
          },
          PROJECT_ETAG,
        ),
      );
    case "/candidates":
      return ofProject((database) =>
        ok({ Meta: meta, Candidates: [...database.candidates.keys()] }, PROJECT_ETAG),
      );
    case "/visits":
      return ofProject((database) => ok({ Meta: meta, Visits: visitLabels(database) }, PROJECT_ETAG));
    case "/instruments":
      return ofProject(() => ok({ Meta: meta, Instruments: [] }, PROJECT_ETAG));
    case "/images":
      return ofProject(projectImages);
    case "/bids":
    case "/bids/":
      return ofProject((database) =>
        database.bids === undefined ? invalidProject() : ok(manifest(database), EXPORT_ETAG),
      );
  }
  const file = /^\/bids\/([\w.-]+)$/.exec(rest)?.[1];
  if (file === undefined) return undefined;
  return {
    serves: "file",
    async run(_request, database, fault) {
      if (name !== PROJECT) return invalidProject();
      const found = database.bids?.files.find((each) => each.name === file);
      if (found === undefined) return error(404, "File not found");
      return sendFile(found, { type: exportType(file), etag: EXPORT_ETAG, fault });
    },
  };
}

function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

function rows(run: (database: Database, request: SandboxRequest) => Reply): Answer {
  return { serves: "rows", run: (request, database) => run(database, request) };
}

function visitLabels({ candidates }: Database): string[] {
  return [...new Set([...candidates.values()].flatMap(({ visits }) => [...visits.keys()]))].sort();
}

function projectImages(database: Database, { query }: SandboxRequest): Reply {
  const since = query.get("since");
  const after = since === null ? Number.NEGATIVE_INFINITY : Date.parse(since);
  if (Number.isNaN(after)) return error(400, { error: "Invalid date" });
  const images = database
    .images()
    .filter(({ image }) => Date.parse(image.insertedAt) > after)
    .map(({ candidate, visit, image }) => ({
      Candidate: candidate.candId,
      PSCID: candidate.pscid,
      Visit: visit.label,
      Visit_date: visit.date,
      Site: candidate.site,
      InsertTime: image.insertedAt,
      ScanType: image.scanType,
      QC_status: image.qc,
      Selected: image.selected === null ? null : String(image.selected),
      Link: `/candidates/${candidate.candId}/${visit.label}/images/${image.native.name}`,
    }));
  return ok({ Images: images }, PROJECT_ETAG);
}

/** Links are computed from names, not checked (loris.md 6). */
function imageLinks(image: StudyImage, base: string) {
  const stem = bidsStem(image);
  if (image.bids === null || stem === undefined) return null;
  const link = (ending: string): string => `${base}/images/${image.native.name}/bids/${stem}${ending}`;
  const events =
    image.bids.files.find(({ name }) => /_events\.(tsv|txt)$/.test(name))?.name ??
    (/_task-(retrieval|encoding)/.test(stem) ? `${stem}_events.txt` : undefined);
  return {
    Subfolder: image.bids.subfolder,
    NiftiLink: link(".nii.gz"),
    JsonLink: link(".json"),
    ...(image.bids.subfolder === "dwi" ? { BvalLink: link(".bval"), BvecLink: link(".bvec") } : {}),
    ...(events === undefined ? {} : { EventLink: `${base}/images/${image.native.name}/bids/${events}` }),
  };
}

function sessionLinks({ candId }: Candidate, { label }: Visit) {
  const stem = `/candidates/${candId}/${label}/bidsfiles/sub-${candId}_ses-${label}_scans`;
  return { TsvLink: `${stem}.tsv`, JsonLink: `${stem}.json` };
}

function manifest(database: Database) {
  const link = (name: string): string => `/projects/${PROJECT}/bids/${name}`;
  const sessions: unknown[] = [];
  const images: unknown[] = [];
  for (const candidate of database.candidates.values())
    for (const visit of candidate.visits.values()) {
      const who = { Candidate: candidate.candId, PSCID: candidate.pscid, Visit: visit.label };
      if (visit.images.some(({ bids }) => bids !== null) && visit.bids.length > 0)
        sessions.push({ ...who, ...sessionLinks(candidate, visit) });
      for (const image of visit.images) {
        const links = imageLinks(image, `/candidates/${candidate.candId}/${visit.label}`);
        if (links !== null) images.push({ ...who, LorisScanType: image.scanType, ...links });
      }
    }
  return {
    DatasetDescription: { Link: link("dataset_description.json") },
    README: { Link: link("README") },
    BidsValidatorConfig: { Link: link(".bids-validator-config.json") },
    Participants: { TsvLink: link("participants.tsv"), JsonLink: link("participants.json") },
    SessionFiles: sessions,
    Images: images,
  };
}

function candidateFields({ candId, pscid, birth, sex, language }: Candidate, site: string) {
  return {
    CandID: candId,
    PSCID: pscid,
    Site: site,
    DoB: birth,
    Gender: sex,
    Language: language,
    Project: PROJECT,
  };
}

/** `MTL` of Montreal: the alias that the list has in place of the name. */
const alias = (site: string): string =>
  site
    .replaceAll(/[^A-Za-z]/g, "")
    .slice(0, 3)
    .toUpperCase() || "DCC";

function candidateAnswer(path: string): Answer | undefined {
  if (path === "/candidates/") {
    return rows((database) => {
      const all = [...database.candidates.values()];
      return ok(
        { Candidates: all.map((candidate) => candidateFields(candidate, alias(candidate.site))) },
        md5(`Candidates:${all.length}`),
      );
    });
  }
  const match = /^\/candidates\/(\d+)(?:\/([A-Za-z0-9_.]+)(\/.*)?)?$/.exec(path);
  if (match === null) return undefined;
  const [, candId = "", label, rest = ""] = match;
  const ofCandidate = (run: (candidate: Candidate) => Reply | Promise<Reply>) => (database: Database) => {
    if (!/^\d{6,7}$/.test(candId)) return error(400, "Invalid CandID format");
    const candidate = database.candidates.get(candId);
    return candidate === undefined ? error(404, "Unknown CandID") : run(candidate);
  };
  const candidateEtag = md5(`Candidate:${candId}`);
  if (label === undefined) {
    return {
      serves: "rows",
      run: (_request, database) =>
        ofCandidate((candidate) =>
          ok(
            {
              Meta: candidateFields(candidate, candidate.site),
              Visits: [...candidate.visits.keys()],
            },
            candidateEtag,
          ),
        )(database),
    };
  }
  const ofVisit = (
    serves: Route["serves"],
    run: (visit: Visit, candidate: Candidate, fault: Fault | undefined) => Reply | Promise<Reply>,
    head?: true,
  ): Answer => ({
    serves,
    ...(head ? { head } : {}),
    run: (_request, database, fault) =>
      ofCandidate((candidate) => {
        const visit = candidate.visits.get(label);
        return visit === undefined ? error(404, `Invalid visit ${label}`) : run(visit, candidate, fault);
      })(database),
  });
  const meta = { CandID: candId, Visit: label };
  switch (rest) {
    case "":
      return ofVisit("rows", (visit) =>
        ok(
          {
            Meta: { ...meta, Site: visit.site, Battery: "Control", Age_at_MRI: visit.ageMonths },
            // PHP has one empty array for both.
            Stages: visit.date === null ? [] : { Visit: { Date: visit.date, Status: "Pass" } },
          },
          candidateEtag,
        ),
      );
    case "/images":
      return ofVisit("rows", (visit) =>
        ok(
          {
            Meta: meta,
            Files: visit.images.map((image) => ({
              OutputType: image.outputType,
              Filename: image.native.name,
              AcquisitionType: image.scanType,
            })),
          },
          candidateEtag,
        ),
      );
    case "/bidsfiles":
      return ofVisit("rows", (visit, candidate) =>
        ok({ Meta: meta, Files: sessionLinks(candidate, visit) }, candidateEtag),
      );
    case "/instruments":
      return ofVisit("rows", () => ok({ Meta: meta, Instruments: [] }, candidateEtag));
    case "/dicoms":
      return ofVisit("rows", () => ok({ Meta: meta, DicomTars: [[]] }, candidateEtag));
    case "/qc/imaging":
      return ofVisit("rows", () => ok({ Meta: meta, SessionQC: "", Pending: true }, ""));
  }
  const sessionFile = /^\/bidsfiles\/([\w.-]+)$/.exec(rest)?.[1];
  if (sessionFile !== undefined) {
    return ofVisit(
      "file",
      async (visit, _candidate, fault) => {
        const file = visit.bids.find(({ name }) => name === sessionFile);
        if (file === undefined) return error(404, "File not found");
        return sendFile(file, { type: exportType(file.name), etag: await fileEtag(file), fault });
      },
      true,
    );
  }
  const image = /^\/images\/([\w.-]+)(\/.+)?$/.exec(rest);
  return image === null ? undefined : imageAnswer(image[1]!, image[2] ?? "", meta, ofVisit);
}

type OfVisit = (
  serves: Route["serves"],
  run: (visit: Visit, candidate: Candidate, fault: Fault | undefined) => Reply | Promise<Reply>,
  head?: true,
) => Answer;

/** `LIKE '%name'`: by the end of the name, `_` standing for any character (loris.md 4.5). */
function findImage({ images }: Visit, asked: string): StudyImage | undefined {
  const pattern = new RegExp(`${asked.replaceAll(/[.-]/g, "\\$&").replaceAll("_", ".")}$`, "i");
  return (
    images.find(({ native }) => native.name === asked) ??
    images.find(({ native }) => pattern.test(native.name))
  );
}

function imageAnswer(
  asked: string,
  rest: string,
  meta: { readonly CandID: string; readonly Visit: string },
  ofVisit: OfVisit,
): Answer | undefined {
  const ofImage = (
    serves: Route["serves"],
    run: (
      image: StudyImage,
      fault: Fault | undefined,
      candidate: Candidate,
      visit: Visit,
    ) => Reply | Promise<Reply>,
    head?: true,
  ): Answer =>
    ofVisit(
      serves,
      (visit, candidate, fault) => {
        const image = findImage(visit, asked);
        return image === undefined ? error(404, "File not found") : run(image, fault, candidate, visit);
      },
      head,
    );
  const about = { ...meta, Filename: asked };
  switch (rest) {
    case "":
      return ofImage(
        "file",
        async (image, fault) => {
          const type = await nativeType(image.native);
          const reply = await sendFile(image.native, { type, etag: await fileEtag(image.native), fault });
          if (reply.status !== 200) return reply;
          // The name of the address, not that of the file.
          const name = `attachment; filename=${asked}`;
          return { ...reply, headers: { ...reply.headers, "Content-Disposition": name } };
        },
        true,
      );
    case "/qc":
      return ofImage("rows", (image) =>
        ok(
          {
            Meta: { ...meta, File: asked },
            QC: image.qc,
            Selected: image.selected === null ? null : String(image.selected),
            Caveats: caveatRows(image),
          },
          "",
        ),
      );
    case "/headers":
      return ofImage("rows", (image) => ok({ Meta: about, ...headerSummary(image) }, ""));
    case "/headers/full":
      return ofImage("rows", (image) => ok({ Meta: about, Headers: image.headers }, ""));
    case "/format/raw":
      return ofImage("rows", () => ({
        status: 200,
        headers: { "Content-Type": "application/x.raw", ETag: "" },
      }));
    case "/bids":
      return ofImage("rows", async (image, _fault, candidate, visit) => {
        const links = imageLinks(image, `/candidates/${candidate.candId}/${visit.label}`);
        return ok({ Meta: about, Files: links === null ? [] : [links] }, await fileEtag(image.native));
      });
  }
  const header = /^\/headers\/([\w.:-]+)$/.exec(rest)?.[1];
  if (header !== undefined)
    return ofImage("rows", (image) =>
      ok({ Meta: { ...about, Header: header }, Value: image.headers[header] ?? "" }, ""),
    );
  const exported = /^\/bids\/([\w.-]+)$/.exec(rest)?.[1];
  if (exported === undefined) return undefined;
  return ofImage("file", async (image, fault) => {
    const file = image.bids?.files.find(({ name }) => name === exported);
    if (file === undefined) return error(404, "File not found");
    return sendFile(file, { type: exportType(file.name), etag: await fileEtag(file), fault });
  });
}
