/**
 * Family M: the handlers of LORIS 22 and later, behind one pipeline (loris.md sections 1 to 5). `release` is the switch
 * for what differs between 22, 24.1 and 28.
 */
import type { StudyFile, StudyImage } from "../../../sandbox/data/studies.ts";
import type { Fault } from "../../../sandbox/faults.ts";
import type { Reply, Route, SandboxRequest } from "../../../sandbox/stand-ins.ts";
import {
  type Candidate,
  caveatRows,
  companion,
  type Database,
  headerSummary,
  type ImageRow,
  type Visit,
} from "./database.ts";
import { fileEtag, fileReply, md5, nativeType } from "./files.ts";
import { type LoginDesk, SESSION_COOKIE } from "./login.ts";
import { phpJson } from "./reply.ts";

export type Release = 22 | 24 | 28;

/** MD5 of `{}`: what every reply without an own ETag has. */
const EMPTY_ETAG = "99914b932bd37a50b983c5e7c90ae93b";

interface Call {
  readonly request: SandboxRequest;
  readonly database: Database;
  readonly version: string;
  readonly fault: Fault | undefined;
}

type Answered = Reply | Promise<Reply>;

/** The kind of an address, known from its path alone. */
const servesOf = (path: string): Route["serves"] =>
  /\/images\/[^/]+(\/format\/[a-z]+)?\/?$/.test(path) ? "file" : "rows";

export class ModularFamily {
  readonly #release: Release;
  readonly #desk: LoginDesk;
  readonly #database: () => Promise<Database>;

  constructor(release: Release, desk: LoginDesk, database: () => Promise<Database>) {
    this.#release = release;
    this.#desk = desk;
    this.#database = database;
  }

  /** `rest` is what follows `/api`. */
  route(rest: string, { method }: SandboxRequest, base: string): Route {
    const [, version, path = "/"] = /^\/(v\d[^/]*)(\/.*)?$/.exec(rest) ?? [];
    if (version === undefined)
      return page(json(400, { error: "You must specify a version of the API to use in the URL" }));
    const known = this.#release === 22 ? ["v0.0.2", "v0.0.3-dev"] : ["v0.0.3", "v0.0.4-dev"];
    if (!known.includes(version))
      return page(json(this.#release >= 25 ? 404 : 400, { error: "Unsupported version" }));
    const clean = path.replace(/^\/+/, "/").replace(/(.)\/+$/, "$1");
    if (clean === "/login") {
      if (method !== "POST") return page(json(405, { error: "method not allowed" }, { Allow: "POST" }));
      const dialect = { family: "modular" as const, issuer: base, json };
      return { serves: "token", answer: (request) => this.#desk.login(request, dialect) };
    }
    return {
      serves: servesOf(clean),
      answer: (request, fault) => this.#answer(clean, { request, version, fault }),
      instead: (fault, request) => this.#insteadOf(fault, request, clean),
    };
  }

  async #answer(path: string, call: Omit<Call, "database">): Promise<Reply> {
    const { request } = call;
    const { headers, method } = request;
    const anyCase = this.#release >= 25;
    const identity = this.#desk.identify(request, { anyCase, modular: true });
    if (identity === "broken") return this.#crash(false);
    if (method === "OPTIONS") return { status: 200, headers: { Allow: "GET" } };
    if (identity === "none") return this.#stranger(request, path);
    if (method !== "GET") return json(405, { error: "method not allowed" }, { Allow: "GET" });
    const session = this.#release < 25 ? this.#desk.sessionOf(request) : undefined;
    const leave = session === undefined ? undefined : await this.#desk.enter(session);
    try {
      let reply = await this.#find(path, { ...call, database: await this.#database() });
      if (reply.status === 200 && reply.headers?.ETag === undefined)
        reply = { ...reply, headers: { ...reply.headers, ETag: EMPTY_ETAG } };
      const etag = reply.headers?.ETag ?? "";
      if (reply.status === 200 && headers["if-none-match"] === etag)
        reply = { status: 304, headers: { ETag: etag } };
      const cookie: Record<string, string> =
        session === undefined
          ? { "Set-Cookie": `${SESSION_COOKIE}=${this.#desk.openSession()}; path=/` }
          : {};
      reply = { ...reply, headers: { ...reply.headers, ...cookie } };
      return leave === undefined ? reply : this.#desk.held(reply, leave);
    } catch (error) {
      leave?.();
      throw error;
    }
  }

  /** The ETag comes before the check of who asks: a conditional request stumbles (loris.md 4.2). */
  #stranger({ headers }: SandboxRequest, path: string): Reply {
    const condition = headers["if-none-match"];
    if (condition !== undefined && condition !== "") {
      if (/^\/candidates\/./.test(path)) return this.#crash(false);
      if (condition === EMPTY_ETAG) return { status: 304, headers: { ETag: EMPTY_ETAG } };
    }
    return json(401, { error: "unauthorized" });
  }

  #crash(loggedIn: boolean): Reply {
    const headers = { "Content-Type": "text/html; charset=UTF-8" };
    if (this.#release === 22) return { status: 500, headers };
    const filler = '<div class="row"></div>\n'.repeat(loggedIn ? 800 : 160);
    return {
      status: 500,
      headers,
      body: `<!DOCTYPE html>\n<html><head><title>LORIS</title></head><body><h2>500 Internal Server Error</h2>\n${filler}</body></html>\n`,
    };
  }

  #insteadOf(fault: Fault, request: SandboxRequest, path: string): Reply | undefined {
    if (fault.kind === "expired-token") return this.#stranger(request, path);
    if (fault.kind === "500") return this.#crash(true);
    if (fault.kind === "missing") return json(404, { error: "not found" });
    return undefined;
  }

  /** 22 under newer PHP sends numbers. */
  #id(candId: string): string | number {
    return this.#release === 22 ? Number(candId) : candId;
  }

  /** 22 sends an empty object below the level of the visit (loris.md 5). */
  #metaId(candId: string): unknown {
    return this.#release === 22 ? {} : candId;
  }

  #find(path: string, call: Call): Answered {
    const { database, version } = call;
    const newest = version === "v0.0.4-dev";
    if (path === "/projects") return this.#projects(database);
    if (path === "/sites") {
      if (!newest) return json(404, { error: "Unsupported version" });
      const sites = [...new Set(visible(database).map(({ site }) => site))];
      return ok({ Sites: sites.map((Name) => ({ Name })) });
    }
    if (path === "/candidates")
      return ok({ Candidates: visible(database).map((candidate) => this.#fields(candidate)) });
    const project = /^\/projects\/([^/]+)(?:\/(.+))?$/.exec(path);
    if (project !== null) return this.#project(decoded(project[1]!), project[2] ?? "", call);
    const candidate = /^\/candidates\/([^/]+)(?:\/([^/]+)(?:\/(.+))?)?$/.exec(path);
    if (candidate === null) return json(404, { error: "not found" });
    const [, asked = "", label, rest] = candidate;
    const found =
      database.candidates.get(asked) ??
      (newest ? [...database.candidates.values()].find(({ pscid }) => pscid === asked) : undefined);
    if (found === undefined) {
      if (/^\d{6,10}$/.test(asked))
        return this.#release === 22 ? json(404, { error: "Candidate not found" }) : this.#crash(true);
      return this.#release === 22 ? this.#crash(true) : json(404, { error: "Candidate not found" });
    }
    if (label === undefined) return this.#candidate(found, database);
    const visit = found.visits.get(decoded(label));
    if (visit === undefined) return json(404, { error: "Visit not found" });
    const image = /^images\/([^/]+)(?:\/(.+))?$/.exec(rest ?? "");
    if (visit.access === "restricted") {
      if (image !== null) return json(404, { error: `${image[1]!} not found.` });
      return json(403, { error: "Permission denied" });
    }
    return image === null
      ? this.#visit(found, visit, rest ?? "", newest)
      : this.#image(found, visit, decoded(image[1]!), image[2] ?? "", call);
  }

  #projects(database: Database): Reply {
    const rows = database.projects.map((name) => [
      name,
      { useEDC: "false", PSCID: { Type: "prompt", Regex: "/^[A-Z]{3}[0-9]{4}$/i" } },
    ]);
    return ok({ Projects: Object.fromEntries(rows) });
  }

  #project(name: string, rest: string, { database, request, version }: Call): Reply {
    const access = database.accessOf(name);
    // A flat server has the export below this address; here there is none (loris.md 1.2).
    if (access === undefined) return json(404, { error: "not found" });
    if (access === "restricted") return json(403, { error: "forbidden" });
    const own = [...database.candidates.values()].filter(({ project }) => project === name);
    const Candidates = own.map(({ candId }) => this.#id(candId));
    const visits = [...database.candidates.values()].flatMap((each) => [...each.visits.values()]);
    const labels = visits.filter(({ project }) => project === name).map(({ label }) => label);
    const Visits = [...new Set(labels)].sort();
    const Meta = { Project: name };
    const newest = version === "v0.0.4-dev";
    switch (rest) {
      case "":
        return ok({ Meta, Candidates, Instruments: [], Visits, ...(newest ? { Cohorts: ["Control"] } : {}) });
      case "candidates":
        return ok({ Meta, Candidates });
      case "visits":
        return ok({ Meta, Visits });
      case "instruments":
        return ok({ Meta, Instruments: {} });
      case "recordings":
        return this.#release === 22 ? json(404, { error: "not found" }) : ok({ Recordings: [] });
      case "images": {
        const since = request.query.get("since");
        const after = since === null ? Number.NEGATIVE_INFINITY : Date.parse(since);
        if (Number.isNaN(after))
          return json(400, {
            error: "Failed to parse time string at position 0: The timezone could not be found",
          });
        const rows = database
          .images()
          .filter(({ visit, image }) => visit.project === name && Date.parse(image.insertedAt) > after);
        return ok({ Images: rows.map((row) => this.#imageRow(row)) });
      }
      default:
        return json(404, { error: "not found" });
    }
  }

  #imageRow({ candidate, visit, image }: ImageRow) {
    return {
      Candidate: this.#id(candidate.candId),
      PSCID: candidate.pscid,
      Visit: visit.label,
      Visit_date: visit.date,
      Site: visit.site,
      InsertTime: image.insertedAt,
      ScanType: image.scanType,
      QC_status: image.qc,
      Selected: image.selected === null ? null : String(image.selected),
      Link: `/candidates/${candidate.candId}/${visit.label}/images/${image.native.name}`,
      ...(this.#release === 22 ? { File: image.native.path } : {}),
    };
  }

  #fields(candidate: Candidate) {
    return {
      CandID: this.#id(candidate.candId),
      Project: candidate.project,
      PSCID: candidate.pscid,
      Site: candidate.site,
      EDC: null,
      DoB: candidate.birth,
      Sex: candidate.sex,
    };
  }

  #candidate(candidate: Candidate, database: Database): Reply {
    if (database.accessOf(candidate.project) === "restricted") return json(403, { error: "forbidden" });
    const body = { Meta: this.#fields(candidate), Visits: [...candidate.visits.keys()] };
    return ok(body, md5(`Candidate ${candidate.candId} ${candidate.pscid}`));
  }

  #visit({ candId }: Candidate, visit: Visit, rest: string, newest: boolean): Reply {
    const etag = md5(`Visit ${candId} ${visit.label}`);
    const Meta = { CandID: this.#metaId(candId), Visit: visit.label };
    switch (rest) {
      case "": {
        const group = newest ? { Cohort: "Control" } : { Battery: "Control" };
        const about = { CandID: this.#id(candId), Visit: visit.label, Site: visit.site };
        // PHP has one empty array for a list and for an object.
        const Stages = visit.date === null ? [] : { Visit: { Date: visit.date, Status: "In Progress" } };
        return ok({ Meta: { ...about, ...group, Project: visit.project }, Stages }, etag);
      }
      case "images": {
        const Files = visit.images.map((image) => ({
          OutputType: image.outputType,
          Filename: image.native.name,
          AcquisitionType: image.scanType,
          ...(newest ? { IsPhantom: false } : {}),
        }));
        return ok({ Meta, Files }, etag);
      }
      case "dicoms":
        return ok({ Meta, DicomTars: [] }, etag);
      case "instruments":
        return ok({ Meta, Instruments: [] }, etag);
      case "qc/imaging":
        return ok({ Meta, SessionQC: "", Pending: true });
      case "recordings":
        return this.#release === 22 ? json(404, { error: "not found" }) : ok({ Meta, Files: [] });
      default:
        return json(404, { error: "not found" });
    }
  }

  #image({ candId }: Candidate, visit: Visit, name: string, rest: string, { fault }: Call): Answered {
    const image = visit.images.find(({ native }) => native.name === name);
    if (image === undefined) return json(404, { error: `${name} not found.` });
    const Meta = { CandID: this.#metaId(candId), Visit: visit.label, File: name };
    if (rest === "") return nativeType(image.native).then((type) => sendFile(image.native, type, fault));
    if (rest === "qc")
      return ok({ Meta, QC: image.qc, Selected: image.selected, Caveats: caveatRows(image) });
    if (rest === "headers") return ok({ Meta, ...headerSummary(image) });
    if (rest === "headers/full") return ok({ Meta, Headers: image.headers });
    const header = /^headers\/([^/]+)$/.exec(rest)?.[1];
    if (header !== undefined)
      return ok({ Meta: { ...Meta, Header: header }, Value: image.headers[decoded(header)] ?? "" });
    const format = /^format\/([^/]+)$/.exec(rest)?.[1];
    return format === undefined ? json(404, { error: "not found" }) : this.#format(image, format, fault);
  }

  #format(image: StudyImage, format: string, fault: Fault | undefined): Answered {
    const [ending, type] = FORMATS.get(format) ?? [];
    // There are no MINC tools on this server.
    if (format === "raw") return json(500, { error: "minctoraw is not installed" });
    if (ending === undefined || type === undefined || this.#release === 22)
      return this.#release === 22 ? this.#crash(true) : json(415, { error: "Unsupported Media Type" });
    const file = companion(image, ending);
    return file === undefined ? json(404, { error: "not found" }) : sendFile(file, type, fault);
  }
}

const FORMATS: ReadonlyMap<string, readonly [ending: string, type: string]> = new Map([
  ["nifti", [".nii.gz", "application/octet-stream"]],
  ["bval", [".bval", "application/text"]],
  ["bvec", [".bvec", "application/text"]],
  ["bidsjson", [".json", "application/json"]],
]);

/** Lists are filtered without a word (loris.md 4.2). */
const visible = (database: Database): Candidate[] =>
  [...database.candidates.values()].filter(({ project }) => database.accessOf(project) === "public");

async function sendFile(file: StudyFile, type: string, fault: Fault | undefined): Promise<Reply> {
  const headers = {
    "Content-Type": type,
    "Content-Disposition": `attachment; filename=${file.name}`,
    ETag: await fileEtag(file),
  };
  return (await fileReply(file, headers, fault)) ?? json(404, { error: "not found" });
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function json(status: number, value: unknown, headers: Readonly<Record<string, string>> = {}): Reply {
  const body = phpJson(value, { escapeSlashes: false });
  return { status, headers: { "Content-Type": "application/json", ...headers }, body };
}

const ok = (value: unknown, etag = EMPTY_ETAG): Reply => json(200, value, { ETag: etag });

const page = (reply: Reply): Route => ({ serves: "page", answer: () => reply });
