/** The sandbox: stand-ins for the archives on loopback, with a control door. Documented in docs/sandbox.md. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { ChangedDataset } from "./changes.ts";
import {
  answerDoor,
  createControl,
  RequestLog,
  type SandboxControl,
  type SeenRequest,
  TOKEN_TTL_SECONDS,
} from "./control.ts";
import type { Dataset } from "./data/dataset.ts";
import { FaultDeck } from "./faults.ts";
import {
  type Reply,
  type SandboxArchive,
  type SandboxRequest,
  STAND_INS,
  type StandIn,
} from "./stand-ins.ts";
import { replyOfFault, send } from "./wire.ts";

export interface SandboxOptions {
  /** 0, the default, takes a free one. */
  readonly port?: number | undefined;
  readonly host?: "127.0.0.1" | undefined;
  /** Data to serve; without it `dataDir`, without that the built-in phantoms of `seed`. */
  readonly data?: Dataset | undefined;
  readonly dataDir?: string | undefined;
  readonly seed?: number | undefined;
  readonly user?: string | undefined;
  readonly password?: string | undefined;
  /** Keep finished zips, so that a bench does not measure the server. */
  readonly precompute?: boolean | undefined;
}

export interface Sandbox {
  /** `http://127.0.0.1:PORT`, without a slash at the end. */
  readonly url: string;
  readonly archives: readonly SandboxArchive[];
  /** Environment for a child process that shall reach the sandbox whatever proxy is configured. */
  readonly environment: Readonly<Record<string, string>>;
  readonly control: SandboxControl;
  /** The other origin that the fault `redirect` leads to. */
  readonly elsewhere: { readonly url: string; readonly requests: readonly SeenRequest[] };
  /** Closes the listeners and destroys every socket. */
  close(): Promise<void>;
}

/** Longest body that is read; a form of a million series UIDs has 65 MB. */
const MAX_BODY_BYTES = 256 * 1024 * 1024;

/** Of each form field in the record of requests. */
const RECORDED_CHARACTERS = 65_536;

/** Start a sandbox. Rejects with the system's error when the port is taken. */
export async function startSandbox(options: SandboxOptions = {}): Promise<Sandbox> {
  const { host = "127.0.0.1", seed = 1, user = "demo", password = "demo", precompute = false } = options;
  const builtIn = options.data === undefined && options.dataDir === undefined;
  const dataset = new ChangedDataset(await openData(options, seed));
  const tokens = { ttlSeconds: TOKEN_TTL_SECONDS, generation: 1 };
  const deck = new FaultDeck(seed);
  const log = new RequestLog();
  const elsewhereLog = new RequestLog();
  const world = { dataset, user, password, tokens, precompute };
  const standIns = await Promise.all(STAND_INS.map((open) => open(world)));
  const control = createControl({
    dataset,
    deck,
    log,
    elsewhereLog,
    tokens,
    standIns,
    dataFor: builtIn ? buildPhantoms : undefined,
    startSeed: seed,
    precompute,
  });

  const startedAt = performance.now();
  const elsewhereServer = createServer((request, response) => {
    void receive(request, elsewhereLog, startedAt)
      .then(async ({ seen }) => {
        const body = "<!DOCTYPE html>\n<html><body><h1>Sign in elsewhere</h1></body></html>\n";
        const sent = await send(response, { status: 200, headers: { "Content-Type": "text/html" }, body });
        Object.assign(seen, { status: sent.status, bytesSent: sent.bytes, ending: sent.ending });
      })
      .catch(() => request.socket.destroy());
  });
  const elsewhereUrl = await listen(elsewhereServer, 0, host);

  let url = "";
  const server = createServer((request, response) => {
    void answer(request, response).catch(() => request.socket.destroy());
  });
  try {
    url = await listen(server, options.port ?? 0, host);
  } catch (error) {
    elsewhereServer.close();
    throw error;
  }
  const archives = standIns.flatMap((standIn) => standIn.archives(url));
  const showcase = {
    url,
    elsewhere: elsewhereUrl,
    archives,
    user,
    password,
    elsewhereRequests: () => elsewhereLog.list(),
  };

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = (request.url ?? "/").split("?", 1)[0]!;
    if (path === "/_sandbox" || path.startsWith("/_sandbox/")) {
      const body = await readBody(request);
      await send(
        response,
        await answerDoor({ method: request.method ?? "GET", path, body }, control, dataset, showcase),
      );
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
      const instead = fault && replyOfFault(fault, elsewhereUrl);
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
    environment: { NO_PROXY: "127.0.0.1,localhost", no_proxy: "127.0.0.1,localhost" },
    control,
    elsewhere: {
      url: elsewhereUrl,
      get requests() {
        return elsewhereLog.list();
      },
    },
    async close() {
      await Promise.all([server, elsewhereServer].map(shut));
      for (const standIn of standIns) standIn.close?.();
    },
  };
}

async function openData(options: SandboxOptions, seed: number): Promise<Dataset> {
  if (options.data !== undefined) return options.data;
  if (options.dataDir === undefined) return buildPhantoms(seed);
  const { openFolderDataset } = await import("./data/folder.ts");
  return openFolderDataset(options.dataDir);
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
  const isForm = (incoming.headers["content-type"] ?? "").startsWith("application/x-www-form-urlencoded");
  const form = new URLSearchParams(isForm ? (await readBody(incoming)).toString("utf8") : "");
  const method = incoming.method ?? "GET";
  const parsed = { method, path, query, form, headers: incoming.headers, incoming };
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

async function listen(server: Server, port: number, host: string): Promise<string> {
  server.keepAliveTimeout = 60_000;
  server.requestTimeout = 0;
  server.listen(port, host);
  await once(server, "listening");
  return `http://${host}:${(server.address() as AddressInfo).port}`;
}

async function shut(server: Server): Promise<void> {
  const closed = once(server, "close");
  server.close();
  server.closeAllConnections();
  await closed;
}
