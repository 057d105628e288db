/**
 * HTTP for every source: one pool of connections, one place where network faults get their codes, where idle
 * transfers are noticed, and where credentials are kept from other origins.
 */
import { createGunzip } from "node:zlib";
import type { Dispatcher } from "undici";
import { type ErrorCode, RunError } from "../errors.ts";
import { parseRetryAfter } from "../lib/backoff.ts";
import type { Context } from "../lib/context.ts";
import type { RateLimiter } from "../lib/limiter.ts";
import { redactUrl } from "../lib/redact.ts";
import { type ProxyFor, proxyAddress, proxyFor, readNoProxy, trustedAuthorities } from "./surroundings.ts";

export interface HttpOptions {
  readonly userAgent: string;
  /** Connections per origin. */
  readonly connections: number;
  /** A body that sends nothing for so long is given up. */
  readonly stallTimeoutMs: number;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly limiter?: RateLimiter;
  /** Called with the number of body bytes of data requests as they arrive. */
  readonly onReceived?: (bytes: number) => void;
}

export interface HttpRequest {
  readonly method: "GET" | "POST";
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** How long the first byte of the reply may take. */
  readonly firstByteTimeoutMs: number;
  /** True: the body is data, counted and held to the rate limit. */
  readonly data?: boolean;
  /** `manual`: an answer that leads elsewhere is handed over as it is. Default: it is followed. */
  readonly redirects?: "follow" | "manual";
  /** True: the body as it was sent, also where the server packed it (Content-Encoding). */
  readonly raw?: boolean;
}

export interface HttpResponse {
  readonly status: number;
  header(name: string): string | undefined;
  /** Redacted, after redirects. */
  readonly url: string;
  /** Must be read or left by `return` (a `for await` does both). Throws `archive-cut`, `archive-stalled`. */
  readonly body: AsyncIterable<Uint8Array>;
  /** The whole body as text; throws `archive-reply` when it is longer. */
  text(maxBytes: number): Promise<string>;
  /** Gives the connection back without reading on. */
  discard(): Promise<void>;
}

export interface Http {
  request(request: HttpRequest, context: Context): Promise<HttpResponse>;
  close(): Promise<void>;
}

const MAX_REDIRECTS = 5;
const CONNECT_TIMEOUT_MS = 20_000;

/** Throws `usage` for surroundings that can't be used. */
export function createHttp(options: HttpOptions): Http {
  const openDispatcher = prepareDispatcher(options);
  let dispatcher: Promise<Dispatcher> | null = null;
  return {
    request: async (request, context) => {
      dispatcher ??= openDispatcher();
      return follow(await dispatcher, options, request, context);
    },
    close: async () => (await dispatcher)?.destroy(),
  };
}

/** The library comes with the first request: commands that ask no archive do without its weight. */
function prepareDispatcher(options: HttpOptions): () => Promise<Dispatcher> {
  const { environment } = options;
  const ca = trustedAuthorities(environment);
  const connect = { timeout: CONNECT_TIMEOUT_MS, ...(ca ? { ca } : {}) };
  const common = {
    connections: options.connections,
    pipelining: 1,
    connect,
  };
  const httpProxy = proxyAddress(environment, "http");
  const httpsProxy = proxyAddress(environment, "https");
  const noProxy = readNoProxy(environment);
  return async () => {
    const { Agent, EnvHttpProxyAgent } = await import("undici");
    if (!httpProxy && !httpsProxy) return new Agent(common);
    return new EnvHttpProxyAgent({
      ...common,
      // `connect` concerns direct connections only.
      requestTls: connect,
      proxyTls: connect,
      // As curl does: many proxies allow a tunnel to port 443 only.
      proxyTunnel: false,
      // Empty and not absent, for which undici would look at the process's own environment.
      httpProxy,
      httpsProxy,
      noProxy,
    });
  };
}

async function follow(
  dispatcher: Dispatcher,
  options: HttpOptions,
  request: HttpRequest,
  context: Context,
): Promise<HttpResponse> {
  let { url } = request;
  let headers: Record<string, string> = {
    "user-agent": options.userAgent,
    accept: "*/*",
    ...request.headers,
  };
  for (let hop = 0; ; hop += 1) {
    const reply = await send(dispatcher, options, request, url, headers, context);
    const location = reply.headers.location;
    if (
      request.redirects === "manual" ||
      reply.statusCode < 300 ||
      reply.statusCode > 399 ||
      reply.statusCode === 304 ||
      typeof location !== "string"
    ) {
      return readable(reply, url, request, options, context);
    }
    await drain(reply);
    const next = URL.canParse(location, url.href) ? new URL(location, url.href) : null;
    const refuse = (why: string): RunError =>
      new RunError(
        "archive-redirect",
        `${redactUrl(url)} redirects to ${next ? redactUrl(next) : "nowhere"}: ${why}`,
      );
    if (!next) throw refuse("that is no address");
    if (hop >= MAX_REDIRECTS) throw refuse("too many redirects");
    if (request.method !== "GET") throw refuse("a form is not sent to another place");
    if (next.protocol !== url.protocol && next.protocol !== "https:")
      throw refuse("it is less safe than the first");
    if (next.origin !== url.origin) {
      // Credentials are for the origin they were given for, and for no other.
      // Some servers want a name in capitals, so that it is compared without case.
      const rest = Object.entries(headers).filter(
        ([name]) => !["authorization", "cookie", "api_key"].includes(name.toLowerCase()),
      );
      headers = Object.fromEntries(rest);
      context.log(
        "info",
        `${redactUrl(url)} redirects to another origin, ${next.origin}; no credentials are sent there`,
      );
    }
    url = next;
  }
}

async function send(
  dispatcher: Dispatcher,
  options: HttpOptions,
  request: HttpRequest,
  url: URL,
  headers: Record<string, string>,
  context: Context,
): Promise<Dispatcher.ResponseData> {
  const started = context.clock.monotonicMs();
  try {
    const reply = await dispatcher.request({
      method: request.method,
      origin: url.origin,
      path: `${url.pathname}${url.search}`,
      headers,
      body: request.body ?? null,
      headersTimeout: request.firstByteTimeoutMs,
      // With the request: an option of the dispatcher is lost on the way to a proxy.
      bodyTimeout: options.stallTimeoutMs,
      signal: context.signal,
    });
    const ms = Math.round(context.clock.monotonicMs() - started);
    context.log("debug", `${request.method} ${redactUrl(url)} -> ${reply.statusCode} in ${ms} ms`);
    return reply;
  } catch (error) {
    const failure = networkError(error, url, context, proxyFor(url, options.environment));
    context.log("debug", `${request.method} ${redactUrl(url)} -> ${failure.message}`);
    throw failure;
  }
}

function readable(
  reply: Dispatcher.ResponseData,
  url: URL,
  request: HttpRequest,
  options: HttpOptions,
  context: Context,
): HttpResponse {
  const header = (name: string): string | undefined => {
    const value = reply.headers[name];
    return Array.isArray(value) ? value[0] : value;
  };
  async function* read(): AsyncGenerator<Uint8Array> {
    const gzip = header("content-encoding") === "gzip" && !request.raw;
    const stream = gzip ? reply.body.pipe(createGunzip()) : reply.body;
    if (gzip) reply.body.on("error", (error) => stream.destroy(error));
    try {
      for await (const chunk of stream as AsyncIterable<Buffer>) {
        if (request.data) {
          if (options.limiter) await options.limiter.take(chunk.length, context.signal);
          options.onReceived?.(chunk.length);
        }
        yield chunk;
      }
    } catch (error) {
      throw networkError(error, url, context);
    } finally {
      reply.body.destroy();
    }
  }
  const body = read();
  return {
    status: reply.statusCode,
    header,
    url: redactUrl(url),
    body,
    text: async (maxBytes) => {
      const chunks: Uint8Array[] = [];
      let size = 0;
      for await (const chunk of body) {
        size += chunk.length;
        if (size > maxBytes)
          throw new RunError("archive-reply", `${redactUrl(url)} answered with more than ${maxBytes} bytes`);
        chunks.push(chunk);
      }
      return Buffer.concat(chunks).toString("utf8");
    },
    discard: () => drain(reply),
  };
}

async function drain(reply: Dispatcher.ResponseData): Promise<void> {
  await reply.body.dump({ limit: 64 * 1024 }).catch(() => undefined);
}

/** The RunError for a status that is a failure in any HTTP service; null where the source has to say. */
export function statusError(response: HttpResponse, context: Context): RunError | null {
  const { status, url } = response;
  const retryAfterMs = parseRetryAfter(response.header("retry-after"), context.clock.now().getTime());
  const options = { at: { url }, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) };
  if (status === 429 || status === 503) {
    return new RunError("archive-busy", `the archive asks us to come back later (HTTP ${status})`, options);
  }
  if (status >= 500)
    return new RunError("archive-error", `the archive failed to answer (HTTP ${status})`, options);
  if (status === 407) return proxyLogin(options);
  return null;
}

function proxyLogin(options: ConstructorParameters<typeof RunError>[2]): RunError {
  return new RunError("archive-unreachable", "the proxy asks for a login (HTTP 407)", {
    ...options,
    retry: "never",
    hint: "put the login into HTTPS_PROXY: http://user:password@host:port",
  });
}

const CODES: Readonly<Record<string, readonly [ErrorCode, string]>> = {
  ECONNREFUSED: ["archive-unreachable", "connection refused"],
  ENOTFOUND: ["archive-unreachable", "the host name is not known"],
  EAI_AGAIN: ["archive-unreachable", "the host name could not be looked up"],
  EHOSTUNREACH: ["archive-unreachable", "no route to the host"],
  ENETUNREACH: ["archive-unreachable", "no network"],
  ETIMEDOUT: ["archive-unreachable", "the connection timed out"],
  UND_ERR_CONNECT_TIMEOUT: ["archive-unreachable", "the connection timed out"],
  UND_ERR_HEADERS_TIMEOUT: ["archive-stalled", "no answer came"],
  UND_ERR_BODY_TIMEOUT: ["archive-stalled", "the transfer stalled"],
};

/** Of OpenSSL's verification (Node, `tls` X509 certificate error codes), of Node itself, of undici for a proxy. */
const CERTIFICATE_CODES =
  /CERT|SELF_SIGNED|^UNABLE_TO_|^INVALID_(CA|PURPOSE)$|^PATH_LENGTH_EXCEEDED$|^HOSTNAME_MISMATCH$|^UND_ERR_PRX_TLS$/u;

/**
 * The RunError for what a socket or undici threw, else the signal's reason. Its message begins with the host.
 * `proxy`: while no answer has come yet, the one that the request goes through.
 */
export function networkError(
  error: unknown,
  url: URL,
  context: Context,
  proxy: ProxyFor | null = null,
): Error {
  if (error instanceof RunError) return error;
  if (context.signal.aborted)
    return context.signal.reason instanceof Error
      ? context.signal.reason
      : new RunError("interrupted", "interrupted");
  const code = codeOf(error);
  const at = { url: redactUrl(url) };
  const known = CODES[code];
  // No connection of ours went to the archive itself: what could not be reached is the proxy.
  if (proxy !== null && known && known[0] === "archive-unreachable") {
    return new RunError(
      known[0],
      `the proxy ${proxy.host} (${proxy.variable}) for ${url.host}: ${known[1]}`,
      {
        at,
        cause: error,
        hint: `check ${proxy.variable}, or name ${url.hostname} in NO_PROXY when it is reached without a proxy`,
      },
    );
  }
  if (known) return new RunError(known[0], `${url.host}: ${known[1]}`, { at, cause: error });
  if (CERTIFICATE_CODES.test(code)) {
    return new RunError("archive-unreachable", `${url.host}: its certificate was not accepted (${code})`, {
      at,
      cause: error,
      retry: "never",
      hint: "behind a proxy that opens TLS, name its certificate in SSL_CERT_FILE or NODE_EXTRA_CA_CERTS",
    });
  }
  if (/^ERR_SSL_|^EPROTO$/u.test(code)) {
    return new RunError("archive-unreachable", `${url.host}: no secure connection came about (${code})`, {
      at,
      cause: error,
    });
  }
  // The one place where undici tells why a proxy opened no tunnel.
  const refused = /^Proxy (?:response|Authentication Required) \((\d+)\)/u.exec(
    error instanceof Error ? error.message : "",
  )?.[1];
  if (refused === "407") return proxyLogin({ at, cause: error });
  if (refused !== undefined) {
    return new RunError("archive-unreachable", `${url.host}: the proxy refused (HTTP ${refused})`, {
      at,
      cause: error,
    });
  }
  return new RunError("archive-cut", `${url.host}: the connection broke (${code || "closed early"})`, {
    at,
    cause: error,
  });
}

function codeOf(error: unknown): string {
  if (typeof error !== "object" || error === null) return "";
  if ("code" in error && typeof error.code === "string") {
    if (error.code === "UND_ERR_SOCKET" && "cause" in error) return codeOf(error.cause) || error.code;
    return error.code;
  }
  if (error instanceof AggregateError) return codeOf(error.errors[0]);
  return "cause" in error ? codeOf(error.cause) : "";
}
