/** What the environment says of the way to a server: proxies, exceptions from them, and whom to trust. */
import { readFileSync } from "node:fs";
import { isIPv6 } from "node:net";
import { rootCertificates } from "node:tls";
import { RunError } from "../errors.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** The proxy that requests to a URL go through. */
export interface ProxyFor {
  /** May hold a login: not for messages. */
  readonly url: URL;
  /** Host and port, for messages. */
  readonly host: string;
  /** The variable that names it, e.g. `HTTPS_PROXY`. */
  readonly variable: string;
}

/** The variable that is set, the small letters first as with curl. */
function proxyVariable(environment: Environment, scheme: "http" | "https"): string {
  const small = `${scheme}_proxy`;
  return environment[small] === undefined ? small.toUpperCase() : small;
}

/** Address of the proxy for a scheme, empty when there is none. Throws `usage`. */
export function proxyAddress(environment: Environment, scheme: "http" | "https"): string {
  const variable = proxyVariable(environment, scheme);
  const text = environment[variable] ?? "";
  // As curl reads it, a host and port without a scheme are a proxy spoken to in clear.
  const address = text === "" || text.includes("://") ? text : `http://${text}`;
  if (address !== "" && !URL.canParse(address)) {
    throw new RunError("usage", `${variable} is no address of a proxy`);
  }
  return address;
}

/** undici knows an IPv6 address in brackets only, and takes the end of a bare one for a port. */
export function readNoProxy(environment: Environment): string {
  return (environment.no_proxy ?? environment.NO_PROXY ?? "")
    .split(/[,\s]+/u)
    .map((entry) => (isIPv6(entry) ? `[${entry}]` : entry))
    .join(",");
}

const DEFAULT_PORTS: Readonly<Record<string, number>> = { "http:": 80, "https:": 443 };

/**
 * The proxy for a URL, by the rules of undici's EnvHttpProxyAgent (lib/dispatcher/env-http-proxy-agent.js, 7.30.2),
 * which sends the requests: HTTPS falls back to the proxy for HTTP. Null: the server is asked directly.
 */
export function proxyFor(url: URL, environment: Environment): ProxyFor | null {
  const schemes = url.protocol === "https:" ? (["https", "http"] as const) : (["http"] as const);
  const scheme = schemes.find((each) => proxyAddress(environment, each) !== "");
  if (scheme === undefined || isExcepted(url, readNoProxy(environment))) return null;
  const proxy = new URL(proxyAddress(environment, scheme));
  return { url: proxy, host: proxy.host, variable: proxyVariable(environment, scheme) };
}

function isExcepted(url: URL, list: string): boolean {
  if (list === "*") return true;
  const host = url.hostname.toLowerCase();
  const port = Number(url.port) || DEFAULT_PORTS[url.protocol];
  return list.split(",").some((entry) => {
    const [, name = entry, only = ""] = /^(.+):(\d+)$/u.exec(entry) ?? [];
    const suffix = name.replace(/^\*?\./u, "").toLowerCase();
    if (suffix === "" || (only !== "" && Number(only) !== port)) return false;
    return host === suffix || host.endsWith(`.${suffix}`);
  });
}

/**
 * Certificates to trust, as PEM; undefined: those of Node. Node itself honours NODE_EXTRA_CA_CERTS, unless it is told
 * what to trust, but not OpenSSL's SSL_CERT_FILE. Throws `usage`.
 */
export function trustedAuthorities(environment: Environment): string[] | undefined {
  const certificates = environment.SSL_CERT_FILE;
  if (!certificates) return undefined;
  return [
    ...rootCertificates,
    readCertificates(certificates),
    ...readExtraCertificates(environment.NODE_EXTRA_CA_CERTS),
  ];
}

function readCertificates(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new RunError("usage", `SSL_CERT_FILE names ${path}, which can't be read`, { cause: error });
  }
}

/** Node has already warned about a file that it could not read. */
function readExtraCertificates(path: string | undefined): string[] {
  try {
    return path ? [readFileSync(path, "utf8")] : [];
  } catch {
    return [];
  }
}
