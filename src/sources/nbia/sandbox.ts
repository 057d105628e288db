/**
 * The NBIA stand-in: what TCIA's servers answer, by the documented protocol and the server's source
 * (CBIIT/NBIA-TCIA software/nbia-api/src/gov/nih/nci/nbia/restAPI/, official v4 OpenAPI nbia-api.yaml, TCIA wiki).
 * It shares no code with the client of this archive.
 */

import { databaseOrder } from "../../sandbox/hash32.ts";
import type { Reply, Route, SandboxRequest, StandIn, World } from "../../sandbox/stand-ins.ts";
import { dicomTagEndpoints } from "./sandbox/dicom-tags.ts";
import { downloadEndpoints, keptZip } from "./sandbox/downloads.ts";
import { badRequest, formatRows, serverError } from "./sandbox/format.ts";
import { KeptZips } from "./sandbox/kept-zips.ts";
import { manifestEndpoints } from "./sandbox/manifests.ts";
import { TokenService, type User } from "./sandbox/oauth.ts";
import { CollectionPages } from "./sandbox/pages.ts";
import { patientEndpoints } from "./sandbox/patients.ts";
import { columnsOf } from "./sandbox/rows.ts";
import { seriesEndpoints } from "./sandbox/series.ts";
import { simpleSearchEndpoints } from "./sandbox/simple-search.ts";
import { valueEndpoints } from "./sandbox/values.ts";
import { type Api, ArchiveView, type Call, type Endpoint, text } from "./sandbox/view.ts";

export async function openNbiaStandIn(world: World): Promise<StandIn> {
  return new NbiaStandIn(world);
}

class NbiaStandIn implements StandIn {
  readonly kind = "nbia";
  readonly #view: ArchiveView;
  readonly #tokens: TokenService;
  readonly #zips = new KeptZips();
  readonly #pages: CollectionPages;
  readonly #endpoints = new Map<string, Endpoint>();

  constructor(world: World) {
    this.#view = new ArchiveView(world);
    this.#tokens = new TokenService(world);
    this.#pages = new CollectionPages(world);
    const endpoints = [
      ...valueEndpoints(this.#view),
      ...patientEndpoints(this.#view),
      ...seriesEndpoints(this.#view),
      ...downloadEndpoints(this.#view, this.#zips),
      ...dicomTagEndpoints(this.#view),
      ...manifestEndpoints(this.#view),
      ...simpleSearchEndpoints(this.#view),
    ];
    for (const [name, endpoint] of endpoints) {
      for (const api of endpoint.apis) this.#endpoints.set(`${api}/${name}`, endpoint);
    }
  }

  archives(origin: string) {
    return [
      { name: "tcia", kind: this.kind, url: `${origin}/nbia-api`, settings: { pages: `${origin}/api` } },
      { name: "nlst", kind: this.kind, url: `${origin}/nlst/nbia-api`, settings: { pages: `${origin}/api` } },
      { name: "tcia-v1", kind: this.kind, url: `${origin}/nbia-api`, settings: { api: "v1" } },
      { name: "tcia-v2", kind: this.kind, url: `${origin}/nbia-api`, settings: { api: "v2" } },
      {
        name: "tcia-v3",
        kind: this.kind,
        url: origin,
        settings: { api: "v3", resource: "TCIA" },
        credentials: { API_KEY },
      },
    ];
  }

  reset(): void {
    this.#tokens.reset();
  }

  close(): void {
    this.#zips.clear();
  }

  async precompute(uids: Iterable<string>): Promise<void> {
    const shape = { license: true, newFileNames: true, hashes: true };
    for (const uid of uids) {
      const series = this.#view.world.dataset.find(uid);
      if (series !== undefined) await keptZip(this.#view, this.#zips, series, shape);
    }
  }

  route(request: SandboxRequest): Route | undefined {
    return this.#current(request) ?? this.#historic(request) ?? this.#pages.route(request);
  }

  /**
   * The service before NBIA's own, whose names and columns live on in v1. Its generations 2 and 3 wanted a key, as
   * parameter or header (TCIA-Community/TCIA-API-SDK); what it answered to a wrong one is inferred.
   */
  #historic(request: SandboxRequest): Route | undefined {
    const match = /^\/services\/v([1-4])\/(TCIA|SharedList)\/query\/(\w+)(\/metadata)?$/.exec(request.path);
    if (match === null) return undefined;
    const [, generation, resource, asked = "", metadata] = match;
    const needsKey = generation === "2" || generation === "3";
    const key = request.query.get("api_key") ?? request.headers.api_key;
    if (needsKey && key !== API_KEY) {
      return page(() => ({
        status: 401,
        headers: { "Content-Type": "text/plain" },
        body: key === undefined ? "api_key is missing" : "api_key is not valid",
      }));
    }
    const shared = resource === "SharedList" ? { ContentsByName: "getContentsByName" }[asked] : undefined;
    const name = shared ?? (asked === "PatientsByModality" ? "getPatientByCollectionAndModality" : asked);
    const endpoint = this.#endpoints.get(`v1/${name}`);
    if (
      endpoint === undefined ||
      endpoint.verb !== "GET" ||
      (resource === "SharedList") !== (shared !== undefined)
    ) {
      return page(() => ({ status: 404 }));
    }
    if (metadata !== undefined) {
      const columns = columnsOf(name);
      return page((r) =>
        columns === undefined ? { status: 404 } : listColumns(columns, r.query.get("format")),
      );
    }
    const open: Omit<Call, "user" | "query"> = {
      request,
      api: "v1",
      host: "main",
      historic: true,
      fault: undefined,
    };
    return {
      serves: endpoint.serves,
      answer: (r, fault) => this.#answer(endpoint, { ...open, request: r, fault }),
    };
  }

  #current(request: SandboxRequest): Route | undefined {
    // The servlet is mapped twice, with and without `services` (software/nbia-api/resources/keycloak/web.xml).
    const match = /^(\/nlst)?\/nbia-api(?:\/services)?\/(.*?)\/?$/.exec(request.path);
    if (match === null) return undefined;
    const host = match[1] === undefined ? "main" : "nlst";
    const rest = match[2]!;
    if (request.method === "OPTIONS") return page(() => PREFLIGHT);
    const verb = request.method === "HEAD" ? "GET" : request.method;
    const wrongVerb = page(() => serverError("HTTP 405 Method Not Allowed"));
    switch (rest) {
      case "oauth/token":
        return verb === "POST" ? { serves: "token", answer: (r) => this.#tokens.token(r) } : wrongVerb;
      case "logout":
        return page((r) => this.#tokens.logout(r));
      case "up":
        return page(() => text("up"));
      case "hostName":
        return page(() => text("sandbox"));
      case "v1/status":
        return page(() => ({
          status: 200,
          headers: { "Content-Type": "text/html" },
          body: "<p>sandbox</p>",
        }));
    }
    const [, version, name = ""] = /^(?:(v[124])\/)?(.*)$/.exec(rest) ?? [];
    const api = (version ?? "advanced") as Api;
    const endpoint = this.#endpoints.get(`${api}/${name}`);
    // No mapper knows Jersey's own exceptions: the catch-all turns them into 500.
    if (endpoint === undefined) return page(() => serverError("HTTP 404 Not Found"));
    if (verb !== endpoint.verb) return wrongVerb;
    return {
      serves: endpoint.serves,
      answer: (r, fault) => this.#answer(endpoint, { request: r, api, host, fault }),
    };
  }

  async #answer(
    endpoint: Endpoint,
    { request, api, host, historic = false, fault }: Omit<Call, "user" | "query">,
  ): Promise<Reply> {
    const authorization = request.headers.authorization;
    let user: User = "guest";
    if (api !== "v1") {
      if (authorization === undefined && api !== "v4") return serverError(null);
      const known = authorization === undefined ? "guest" : this.#tokens.userOf(authorization);
      if (known === undefined) return { status: 401 };
      user = known;
    }
    if (api === "v4" && endpoint.allowed !== undefined) {
      const refusal = unknownParameter(request, endpoint.verb, endpoint.allowed);
      if (refusal !== undefined) return refusal;
    }
    return endpoint.run({
      request,
      api,
      host,
      historic,
      user,
      fault,
      query: (name) => request.query.get(name),
    });
  }
}

/** Key of the historic service. */
const API_KEY = "demo";

const PREFLIGHT: Reply = {
  status: 200,
  headers: {
    "Access-Control-Allow-Methods": "GET,POST,HEAD,OPTIONS,PUT",
    "Access-Control-Allow-Headers": "Content-Type,X-Requested-With,accept,Origin",
  },
};

function unknownParameter(
  request: SandboxRequest,
  verb: Endpoint["verb"],
  allowed: readonly string[],
): Reply | undefined {
  const given = verb === "GET" ? request.query.keys() : request.form.keys();
  for (const name of given) {
    if (allowed.includes(name)) continue;
    const kind = verb === "GET" ? "query" : "form";
    // The order of a Java set is that of no list.
    const listed = databaseOrder(allowed, (word) => word).join(", ");
    return badRequest(`Invalid ${kind} parameter: '${name}'. Allowed parameters are: [${listed}]`);
  }
  return undefined;
}

/** The list of an endpoint's columns; its shape is inferred. */
function listColumns(columns: readonly string[], format: string | null): Promise<Reply> {
  const rows = columns.map((name, index) => [name, index + 1] as const);
  return formatRows(["name", "position"], rows, format);
}

function page(answer: (request: SandboxRequest) => Reply | Promise<Reply>): Route {
  return { serves: "page", answer };
}
