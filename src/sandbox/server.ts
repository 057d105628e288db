/** The sandbox: stand-ins for the archives on loopback, with a control door. Documented in docs/sandbox.md. */
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Product, placeProduct } from "./ascp/product.ts";
import { ChangedDataset } from "./changes.ts";
import {
  answerDoor,
  createControl,
  RequestLog,
  type SandboxControl,
  type SeenRequest,
  type Showcase,
} from "./control.ts";
import type { Dataset } from "./data/dataset.ts";
import type { Packages } from "./data/packages.ts";
import type { ImagingStudy, Studies } from "./data/studies.ts";
import { type Announce, TransferServer } from "./fasp/transfer-server.ts";
import type { Hello } from "./fasp/wire.ts";
import { FaultDeck } from "./faults.ts";
import { PackageShelf } from "./packages.ts";
import {
  type Reply,
  type SandboxArchive,
  type SandboxRequest,
  STAND_INS,
  type StandIn,
} from "./stand-ins.ts";
import { ChangedStudies } from "./study-changes.ts";
import { replyOfFault, send } from "./wire.ts";

export interface SandboxOptions {
  /** 0, the default, takes a free one. */
  readonly port?: number | undefined;
  readonly host?: "127.0.0.1" | undefined;
  /** Data to serve; without it `dataDir`, without that the built-in phantoms of `seed`. */
  readonly data?: Dataset | undefined;
  readonly dataDir?: string | undefined;
  /** Imaging studies to serve; without them those of `dataDir`, without that generated ones of `seed`. */
  readonly studies?: Studies | undefined;
  readonly seed?: number | undefined;
  readonly user?: string | undefined;
  readonly password?: string | undefined;
  /** Keep finished zips, so that a bench does not measure the server. */
  readonly precompute?: boolean | undefined;
  /** Serve the same over HTTPS too, on another free port, with an authority made for this start. */
  readonly tls?: boolean | undefined;
}

/** The HTTPS side of a sandbox. */
export interface SandboxTls {
  /** `https://127.0.0.1:PORT`, without a slash at the end; `localhost` is in the certificate too. */
  readonly url: string;
  /** PEM file of the authority, removed by `close()`. Its key was never written and is forgotten. */
  readonly caFile: string;
  /** The archives at `url`. */
  readonly archives: readonly SandboxArchive[];
}

export interface Sandbox {
  /** `http://127.0.0.1:PORT`, without a slash at the end. */
  readonly url: string;
  readonly archives: readonly SandboxArchive[];
  /** Null without the option `tls`. */
  readonly tls: SandboxTls | null;
  /** The stand-in `ascp`: a program that moves bytes from this machine's sandboxes and from nothing else. */
  readonly ascp: string;
  /** Links of packages and addresses of sites by name (docs/sandbox.md); over HTTPS where that is served. */
  links(): Promise<Readonly<Record<string, string>>>;
  /**
   * Environment for a child process that shall reach the sandbox whatever proxy is configured, and with `tls` trust
   * its authority (OpenSSL and curl, Node, Python requests).
   */
  readonly environment: Readonly<Record<string, string>>;
  readonly control: SandboxControl;
  /** The other origin that the fault `redirect` leads to, which over HTTPS has an HTTPS port of its own. */
  readonly elsewhere: { readonly url: string; readonly requests: readonly SeenRequest[] };
  /** Closes the listeners and destroys every socket. */
  close(): Promise<void>;
}

/** Longest body that is read; a form of a million series UIDs has 65 MB. */
const MAX_BODY_BYTES = 256 * 1024 * 1024;

/** Of each form field in the record of requests. */
const RECORDED_CHARACTERS = 65_536;

type Scheme = "http" | "https";
type Handler = (request: IncomingMessage, response: ServerResponse, scheme: Scheme) => Promise<void>;

/** Start a sandbox. Rejects with the system's error when the port is taken. */
export async function startSandbox(options: SandboxOptions = {}): Promise<Sandbox> {
  const { host = "127.0.0.1", seed = 1, user = "demo", password = "demo", precompute = false } = options;
  const builtIn = options.data === undefined && options.dataDir === undefined;
  const dataset = new ChangedDataset(await openData(options, seed));
  const studies = new ChangedStudies(() => openStudies(options, seed));
  const tokens = { ttlSeconds: undefined, generation: 1 };
  const deck = new FaultDeck(seed);
  const log = new RequestLog();
  const elsewhereLog = new RequestLog();
  const packages = new PackageShelf(() => openPackages(options, seed, dataset, studies));
  const startedAt = performance.now();
  const transfers = new TransferServer({
    generation: () => tokens.generation,
    announce: (hello) => announceTransfer(hello, deck, log, startedAt),
    announceSftp: ({ user, path, serves }) => {
      const target = { method: "SFTP", path: `/sftp/${path.replace(/^[./]+/u, "")}` };
      const record = log.add({ ...unansweredRequest(target, startedAt), query: { user } });
      const fault = deck.draw({ ...target, details: () => `user=${user}`, serves });
      record.fault = fault?.kind ?? null;
      return { record, fault };
    },
  });
  const links = (origin: string): Promise<Record<string, string>> => linksAt(origin);
  const world = { dataset, studies, packages, links, transfers, seed, user, password, tokens, precompute };
  const standIns = await Promise.all(STAND_INS.map((open) => open(world)));
  const control = createControl({
    dataset,
    studies,
    packages,
    transfers,
    deck,
    log,
    elsewhereLog,
    tokens,
    standIns,
    dataFor: builtIn ? buildPhantoms : undefined,
    studiesFor: options.dataDir === undefined && options.studies === undefined ? buildStudies : undefined,
    packagesFor: options.dataDir === undefined ? buildPackages : undefined,
    startSeed: seed,
    precompute,
  });

  const listeners: Server[] = [];
  const serve = async (scheme: Scheme, port: number, handle: Handler): Promise<string> => {
    const listener = (request: IncomingMessage, response: ServerResponse): void => {
      void handle(request, response, scheme).catch(() => request.socket.destroy());
    };
    const server =
      scheme === "http"
        ? createServer(listener)
        : createSecureServer({ cert: secrets?.certificate, key: secrets?.key }, listener);
    listeners.push(server);
    return listen(server, scheme, port, host);
  };
  const close = async (): Promise<void> => {
    await Promise.all(listeners.filter(({ listening }) => listening).map(shut));
    await transfers.close();
    for (const standIn of standIns) standIn.close?.();
    if (product !== undefined) await rm(product.folder, { recursive: true, force: true });
    if (caFolder !== undefined) await rm(caFolder, { recursive: true, force: true });
  };

  // The library that writes certificates is loaded only where they are wanted.
  const secrets = options.tls ? await (await import("./certificates.ts")).issueCertificates() : undefined;
  const origins = { http: "", https: "" };
  const elsewhereUrls = { http: "", https: "" };
  let caFolder: string | undefined;
  let caFile = "";
  let product: Product | undefined;
  try {
    await transfers.listen(host);
    product = await placeProduct();
    elsewhereUrls.http = await serve("http", 0, answerElsewhere);
    origins.http = await serve("http", options.port ?? 0, answer);
    if (secrets !== undefined) {
      elsewhereUrls.https = await serve("https", 0, answerElsewhere);
      origins.https = await serve("https", 0, answer);
      caFolder = await mkdtemp(join(tmpdir(), "gantry-sandbox-"));
      caFile = join(caFolder, "ca.pem");
      await writeFile(caFile, secrets.caCertificate);
    }
  } catch (error) {
    await close();
    throw error;
  }
  const url = origins.http;
  const elsewhereUrl = elsewhereUrls.http;
  const archivesAt = (origin: string) => standIns.flatMap((standIn) => standIn.archives(origin));
  const archives = archivesAt(url);
  const linksAt = async (origin: string): Promise<Record<string, string>> =>
    Object.assign({}, ...(await Promise.all(standIns.map((standIn) => standIn.links?.(origin) ?? {}))));
  const tls =
    secrets === undefined ? null : { url: origins.https, caFile, archives: archivesAt(origins.https) };
  const showcase = {
    url,
    tls,
    elsewhere: elsewhereUrl,
    archives,
    ascp: product.ascp,
    user,
    password,
    elsewhereRequests: () => elsewhereLog.list(),
  };

  /** Of the whole of the data, those of the one reader that the other one serves aside. */
  async function inventory(): Promise<Pick<Showcase, "studies" | "problems" | "links">> {
    const { studies: all, problems, served: inStudies } = await studies.opened();
    const { served: inPackages } = await packages.opened();
    const served = new Set([...inStudies, ...inPackages]);
    const isSpokenOf = (file: string): boolean =>
      problems.some(({ path: each }) => each === file || file.startsWith(`${each}/`));
    const rest = dataset.problems.filter(({ path: each }) => !served.has(each) && !isSpokenOf(each));
    return {
      studies: Object.fromEntries(all.map((study) => [study.name, countImages(study)])),
      problems: [...rest, ...problems],
      links: await linksAt(origins.https === "" ? url : origins.https),
    };
  }

  async function answerElsewhere(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { seen } = await receive(request, elsewhereLog, startedAt);
    const body = "<!DOCTYPE html>\n<html><body><h1>Sign in elsewhere</h1></body></html>\n";
    const sent = await send(response, { status: 200, headers: { "Content-Type": "text/html" }, body });
    Object.assign(seen, { status: sent.status, bytesSent: sent.bytes, ending: sent.ending });
  }

  async function answer(request: IncomingMessage, response: ServerResponse, scheme: Scheme): Promise<void> {
    const path = (request.url ?? "/").split("?", 1)[0]!;
    if (path === "/_sandbox" || path.startsWith("/_sandbox/")) {
      const body = await readBody(request);
      const said = { method: request.method ?? "GET", path, body };
      await send(response, await answerDoor(said, control, dataset, { ...showcase, ...(await inventory()) }));
      return;
    }
    const { parsed, seen } = await receive(request, log, startedAt);
    const route = findRoute(standIns, parsed);
    const fault = deck.draw({
      method: parsed.method,
      path: parsed.path,
      details: () => [...parsed.query, ...parsed.form].map(([name, value]) => `${name}=${value}`).join("&"),
      serves: route?.serves ?? "page",
    });
    seen.fault = fault?.kind ?? null;
    try {
      const instead =
        fault && (route?.instead?.(fault, parsed) ?? replyOfFault(fault, elsewhereUrls[scheme]));
      const reply: Reply = instead ??
        (await route?.answer(parsed, fault)) ?? { status: 404, body: `nothing is served at ${path}\n` };
      const cors: Record<string, string> =
        parsed.headers.origin === undefined ? {} : { "Access-Control-Allow-Origin": "*" };
      const sent = await send(response, { ...reply, headers: { ...reply.headers, ...cors } }, fault);
      Object.assign(seen, { status: sent.status, bytesSent: sent.bytes, ending: sent.ending });
    } catch (error) {
      // Never hidden as an archive's fault: the door and the reply say that the sandbox itself is wrong.
      seen.problem = error instanceof Error ? (error.stack ?? error.message) : String(error);
      seen.ending = "cut";
      if (response.headersSent) request.socket.destroy();
      else {
        seen.status = 599;
        await send(response, { status: 599, body: `fault of the sandbox itself: ${seen.problem}\n` });
      }
    }
  }

  return {
    url,
    archives,
    tls,
    ascp: product.ascp,
    links: () => linksAt(origins.https === "" ? url : origins.https),
    environment: {
      NO_PROXY: "127.0.0.1,localhost",
      no_proxy: "127.0.0.1,localhost",
      GANTRY_ASCP: product.ascp,
      ASPERA_SCP_PASS: password,
      ...Object.fromEntries(archives.flatMap(credentialVariables)),
      ...(tls === null
        ? {}
        : {
            SSL_CERT_FILE: caFile,
            NODE_EXTRA_CA_CERTS: caFile,
            CURL_CA_BUNDLE: caFile,
            REQUESTS_CA_BUNDLE: caFile,
          }),
    },
    control,
    elsewhere: {
      url: elsewhereUrl,
      get requests() {
        return elsewhereLog.list();
      },
    },
    close,
  };
}

async function openData(options: SandboxOptions, seed: number): Promise<Dataset> {
  if (options.data !== undefined) return options.data;
  if (options.dataDir === undefined) return buildPhantoms(seed);
  const { openFolderDataset } = await import("./data/folder.ts");
  return openFolderDataset(options.dataDir);
}

/** Of a folder: what neither the DICOM archive nor the imaging studies serve. */
async function openPackages(
  options: SandboxOptions,
  seed: number,
  dataset: Dataset,
  studies: ChangedStudies,
): Promise<Packages> {
  if (options.dataDir === undefined) return buildPackages(seed);
  const { openFolderPackages } = await import("./data/package-folder.ts");
  const { served } = await studies.opened();
  const left = new Set(dataset.problems.map(({ path }) => path).filter((path) => !served.has(path)));
  return openFolderPackages(options.dataDir, left);
}

async function buildPackages(seed: number): Promise<Packages> {
  const { buildPackages: build } = await import("./data/generated-packages.ts");
  return build({ seed });
}

function unansweredRequest(
  target: { readonly method: string; readonly path: string },
  startedAt: number,
): Omit<SeenRequest, "number"> {
  return {
    ...target,
    startedMs: performance.now() - startedAt,
    ...{ query: {}, form: {}, json: null, headers: {}, status: 0, bytesSent: 0 },
    ...{ ending: "open", fault: null, problem: null },
  };
}

/** A session of the stand-in ascp in the record of requests, and the fault that is drawn for it. */
function announceTransfer(
  hello: Hello,
  deck: FaultDeck,
  log: RequestLog,
  startedAt: number,
): ReturnType<Announce> {
  const { direction, user, sources, command, variables } = hello;
  const target = { method: "ASCP", path: `/ascp/${direction}` };
  const record = log.add({
    ...unansweredRequest(target, startedAt),
    query: { user, ...(hello.part === null ? {} : { part: hello.part }) },
    form: { argument: command, variable: variables, source: sources },
  });
  const details = (): string => `user=${user}&source=${sources.join("\n")}`;
  const fault = deck.draw({ ...target, details, serves: "transfer" });
  record.fault = fault?.kind ?? null;
  return { record, fault };
}

async function openStudies(options: SandboxOptions, seed: number): Promise<Studies> {
  if (options.studies !== undefined) return options.studies;
  if (options.dataDir === undefined) return buildStudies(seed);
  const { openFolderStudies } = await import("./data/study-folder.ts");
  return openFolderStudies(options.dataDir);
}

async function buildStudies(seed: number): Promise<Studies> {
  const { buildPhantomStudies } = await import("./data/phantom-study.ts");
  return buildPhantomStudies({ seed });
}

function countImages({ candidates }: ImagingStudy): number {
  return candidates.flatMap(({ visits }) => visits).reduce((count, { images }) => count + images.length, 0);
}

async function buildPhantoms(seed: number): Promise<Dataset> {
  const { buildPhantomDataset } = await import("./data/phantom.ts");
  return buildPhantomDataset({ seed });
}

function findRoute(standIns: readonly StandIn[], request: SandboxRequest) {
  for (const standIn of standIns) {
    const route = standIn.route(request);
    if (route !== undefined) return route;
  }
  return undefined;
}

async function receive(
  incoming: IncomingMessage,
  log: RequestLog,
  startedAt: number,
): Promise<{ parsed: SandboxRequest; seen: SeenRequest }> {
  const [path = "/", search = ""] = splitOnce(incoming.url ?? "/", "?");
  const query = new URLSearchParams(search);
  const type = incoming.headers["content-type"] ?? "";
  const isForm = type.startsWith("application/x-www-form-urlencoded");
  const isJson = type.startsWith("application/json");
  const text = isForm || isJson ? (await readBody(incoming)).toString("utf8") : undefined;
  const form = new URLSearchParams(isForm ? text : "");
  const method = incoming.method ?? "GET";
  const parsed: SandboxRequest = {
    method,
    path,
    query,
    form,
    ...(text === undefined ? {} : { text }),
    headers: incoming.headers,
    incoming,
  };
  const fields: Record<string, string[]> = {};
  for (const name of form.keys()) {
    fields[name] ??= form.getAll(name).map((value) => value.slice(0, RECORDED_CHARACTERS));
  }
  const seen = log.add({
    startedMs: performance.now() - startedAt,
    method,
    path,
    query: Object.fromEntries(query),
    form: fields,
    json: isJson && text !== undefined ? text.slice(0, RECORDED_CHARACTERS) : null,
    headers: incoming.headers,
    status: 0,
    bytesSent: 0,
    ending: "open",
    fault: null,
    problem: null,
  });
  return { parsed, seen };
}

function splitOnce(text: string, mark: string): [string, string] {
  const at = text.indexOf(mark);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + mark.length)];
}

async function readBody(incoming: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    size += chunk.byteLength;
    if (size > MAX_BODY_BYTES) throw new Error("the body of the request is too long");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function listen(server: Server, scheme: Scheme, port: number, host: string): Promise<string> {
  server.keepAliveTimeout = 60_000;
  server.requestTimeout = 0;
  server.listen(port, host);
  await once(server, "listening");
  return `${scheme}://${host}:${(server.address() as AddressInfo).port}`;
}

async function shut(server: Server): Promise<void> {
  const closed = once(server, "close");
  server.close();
  server.closeAllConnections();
  await closed;
}

/** As a client's configuration names them: the archive's name in capitals, `-` as `_`. */
function credentialVariables({ name, credentials = {} }: SandboxArchive): [string, string][] {
  const prefix = `GANTRY_${name.toUpperCase().replaceAll("-", "_")}_`;
  return Object.entries(credentials).map(([what, secret]) => [`${prefix}${what}`, secret]);
}
