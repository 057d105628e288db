/**
 * The road to a server, step by step from this machine: proxy, name, port, certificate, HTTP, clocks. Ends after the
 * first step that fails. Whether what answers is an archive is the source's to say.
 */
import { lookup } from "node:dns/promises";
import { connect, isIP } from "node:net";
import { type PeerCertificate, connect as secureConnect } from "node:tls";
import { RunError } from "../errors.ts";
import type { Context } from "../lib/context.ts";
import { type Finding, failed, fine, warning } from "../model/finding.ts";
import { type Http, networkError, statusError } from "../transports/http.ts";
import { type ProxyFor, proxyFor, trustedAuthorities } from "../transports/surroundings.ts";

export interface RoadOptions {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly http: () => Http;
  readonly context: Context;
}

const CONNECT_TIMEOUT_MS = 10_000;
const ANSWER_TIMEOUT_MS = 20_000;
/** Keycloak and certificates bear some difference; more makes a fresh token look ended. */
const CLOCK_SKEW_MS = 5 * 60_000;

/** Yields a finding a step. Throws only for a bug and when the context's signal is aborted. */
export async function* checkRoad(url: URL, options: RoadOptions): AsyncGenerator<Finding> {
  for (const [check, step] of stepsTo(url, options)) {
    options.context.signal.throwIfAborted();
    try {
      yield* await step();
    } catch (error) {
      if (!(error instanceof RunError) || error.exit >= 130) throw error;
      yield failed(check, error);
      return;
    }
  }
}

type Step = readonly [check: string, run: () => Promise<Finding[]>];

function* stepsTo(url: URL, options: RoadOptions): Generator<Step> {
  const { environment } = options;
  let proxy: ProxyFor | null = null;
  yield [
    "proxy",
    async () => {
      proxy = proxyFor(url, environment);
      if (proxy === null) return [fine("proxy", "none is set for this server")];
      await reach(proxy.url, url, options.context, proxy);
      return [fine("proxy", `${proxy.host} (${proxy.variable}) takes connections`)];
    },
  ];
  // Behind a proxy it is the proxy that looks up the name and connects.
  if (proxy === null) {
    yield ["name", () => checkName(url, options.context)];
    yield ["port", () => checkPort(url, options.context)];
    if (url.protocol === "https:") yield ["certificate", () => checkCertificate(url, options)];
  }
  yield ["server", () => checkServer(url, proxy !== null, options)];
}

const portOf = (url: URL): number => Number(url.port) || (url.protocol === "https:" ? 443 : 80);
const hostOf = (url: URL): string => url.hostname.replace(/^\[(.*)\]$/u, "$1");

async function checkName(url: URL, context: Context): Promise<Finding[]> {
  const host = hostOf(url);
  if (isIP(host)) return [fine("name", `${host} is an address already`)];
  try {
    const found = await lookup(host, { all: true });
    return [fine("name", `${host} is ${found.map(({ address }) => address).join(", ")}`)];
  } catch (error) {
    throw withHint(
      networkError(error, url, context),
      "check the name in the archive's URL, and this machine's name server (/etc/resolv.conf); where only a proxy knows names, set HTTPS_PROXY",
    );
  }
}

async function checkPort(url: URL, context: Context): Promise<Finding[]> {
  await reach(url, url, context, null);
  return [fine("port", `port ${portOf(url)} takes connections`)];
}

/** Connects to `to` and hangs up; the failure is told of the server `url`, or of the proxy. */
async function reach(to: URL, url: URL, context: Context, proxy: ProxyFor | null): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      const socket = connect({ host: hostOf(to), port: portOf(to) });
      const end = (error?: Error): void => {
        socket.destroy();
        if (error) reject(error);
        else resolve();
      };
      const late = (): void => end(Object.assign(new Error("timed out"), { code: "ETIMEDOUT" }));
      socket.setTimeout(CONNECT_TIMEOUT_MS, late);
      socket.once("connect", () => end());
      socket.once("error", end);
    });
  } catch (error) {
    const failure = networkError(error, url, context, proxy);
    if (proxy !== null) throw failure;
    throw withHint(
      failure,
      `the server does not listen there, or a firewall is in the way: ask whether port ${portOf(url)} is open from here, or whether a proxy is needed (HTTPS_PROXY)`,
    );
  }
}

interface Met {
  readonly certificate: PeerCertificate;
  /** Code of OpenSSL or Node; null: accepted. */
  readonly refusal: string | null;
  readonly protocol: string;
}

async function checkCertificate(url: URL, { environment, context }: RoadOptions): Promise<Finding[]> {
  const ca = trustedAuthorities(environment);
  const host = hostOf(url);
  let met: Met;
  try {
    met = await new Promise<Met>((resolve, reject) => {
      const socket = secureConnect({
        host,
        port: portOf(url),
        ...(isIP(host) ? {} : { servername: host }),
        ...(ca ? { ca } : {}),
        // Looked at and hung up on: nothing is sent over it, and what is wrong can be told.
        rejectUnauthorized: false,
      });
      socket.setTimeout(CONNECT_TIMEOUT_MS, () => {
        socket.destroy();
        reject(Object.assign(new Error("timed out"), { code: "ETIMEDOUT" }));
      });
      socket.once("secureConnect", () => {
        const refusal: unknown = socket.authorizationError;
        resolve({
          certificate: socket.getPeerCertificate(true),
          refusal: socket.authorized ? null : codeOf(refusal),
          protocol: socket.getProtocol() ?? "TLS",
        });
        socket.destroy();
      });
      socket.once("error", reject);
    });
  } catch (error) {
    throw withHint(
      networkError(error, url, context),
      "the server speaks no TLS there, or something between breaks it: check the URL's https and port",
    );
  }
  const { certificate, refusal, protocol } = met;
  if (refusal !== null) throw refusedCertificate(url, certificate, refusal);
  return [fine("certificate", `${protocol}, good until ${dayOf(certificate.valid_to)}`)];
}

const codeOf = (refusal: unknown): string =>
  refusal instanceof Error
    ? String((refusal as NodeJS.ErrnoException).code ?? refusal.message)
    : String(refusal);

const dayOf = (text: string): string =>
  Number.isNaN(Date.parse(text)) ? text : new Date(text).toISOString().slice(0, 10);

/** Codes: Node `tls`, X509 certificate error codes. */
function refusedCertificate(url: URL, certificate: PeerCertificate, code: string): RunError {
  const refuse = (what: string, hint: string): RunError =>
    new RunError("archive-unreachable", `${url.host}: ${what} (${code})`, { retry: "never", hint });
  switch (code) {
    case "CERT_HAS_EXPIRED":
      return refuse(
        `its certificate ended on ${dayOf(certificate.valid_to)}`,
        "tell the archive; if that day is still to come, this machine's clock is wrong",
      );
    case "CERT_NOT_YET_VALID":
      return refuse(
        `its certificate begins on ${dayOf(certificate.valid_from)}`,
        "this machine's clock is probably wrong: set it",
      );
    case "ERR_TLS_CERT_ALTNAME_INVALID":
      return refuse(
        `its certificate is for another name: ${certificate.subjectaltname ?? certificate.subject?.CN ?? "none"}`,
        "check the host name in the archive's URL; a proxy or a login page may answer instead of the archive",
      );
    default: {
      const issuer = certificate.issuer?.CN ?? certificate.issuer?.O ?? "nobody";
      return refuse(
        `its certificate is by an authority that is not trusted here: ${String(issuer)}`,
        "where your institute opens TLS or has an authority of its own, name its certificate in SSL_CERT_FILE or NODE_EXTRA_CA_CERTS",
      );
    }
  }
}

async function checkServer(url: URL, proxied: boolean, { http, context }: RoadOptions): Promise<Finding[]> {
  const started = context.clock.monotonicMs();
  const response = await http().request(
    { method: "GET", url, firstByteTimeoutMs: ANSWER_TIMEOUT_MS },
    context,
  );
  const ms = Math.round(context.clock.monotonicMs() - started);
  await response.discard();
  const { status } = response;
  // A 500 at this address is an NBIA's way to say 404 (UnauthorizedExceptionMapper.java and its catch-all brother).
  const failure = status === 500 ? null : statusError(response, context);
  if (failure) {
    const behind =
      proxied && status !== 407 ? "the proxy, or the server behind it, is at fault; try again later" : null;
    throw behind === null ? failure : withHint(failure, behind);
  }
  return [
    fine("server", `answers with HTTP ${status} in ${ms} ms`),
    ...checkClock(response.header("date"), context),
  ];
}

function checkClock(date: string | undefined, { clock }: Context): Finding[] {
  const theirs = Date.parse(date ?? "");
  if (Number.isNaN(theirs)) return [];
  const aheadMs = clock.now().getTime() - theirs;
  if (Math.abs(aheadMs) < CLOCK_SKEW_MS) return [fine("clock", "agrees with the server's")];
  const minutes = Math.round(Math.abs(aheadMs) / 60_000);
  return [
    warning(
      "clock",
      `this machine's clock is ${minutes} minutes ${aheadMs > 0 ? "ahead of" : "behind"} the server's`,
      "set the clock: certificates and logins depend on it",
    ),
  ];
}

function withHint(error: Error, hint: string): Error {
  if (!(error instanceof RunError)) return error;
  return new RunError(error.code, error.message, {
    retry: error.retry,
    at: error.at,
    cause: error.cause,
    hint,
  });
}
