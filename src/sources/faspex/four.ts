/**
 * The wire of Faspex 4: a public link is a delivery, told as an Atom entry whose link `package` is a `faspe://` address of
 * the transfer (IBM aspera-cli 4.25, plugins/faspex.rb and transfer/uri.rb). It says nothing of the files in the package.
 */
import { SaxesParser } from "saxes";
import type { Json } from "../../model/item.ts";
import type { Wire } from "./wire.ts";

/** A package as its entry shows it. */
export interface FourDelivery {
  readonly title: string | null;
  /** ISO 8601, as the server writes it. */
  readonly updated: string | null;
  /** `faspe://…`, a secret; null: the package is empty, or its content was deleted. */
  readonly address: string | null;
}

/** Null for what is no Atom entry, as the page for people that a server sends for a package that it does not know. */
export function parseDelivery(text: string): FourDelivery | null {
  const said: Record<string, string> = {};
  let address: string | null = null;
  const open: string[] = [];
  const parser = new SaxesParser();
  // Entities that a document declares itself are refused with the DOCTYPE that declares them.
  parser.on("doctype", () => {
    throw new NoEntry();
  });
  parser.on("error", () => {
    throw new NoEntry();
  });
  parser.on("opentag", ({ name, attributes }) => {
    open.push(name.slice(name.indexOf(":") + 1));
    if (open.join("/") === "entry/link" && attributes.rel === "package") address ??= attributes.href ?? null;
  });
  const onText = (part: string): void => {
    const [top, name, ...deeper] = open;
    if (top === "entry" && name !== undefined && deeper.length === 0) said[name] = (said[name] ?? "") + part;
  };
  parser.on("text", onText);
  parser.on("cdata", onText);
  let isEntry = false;
  parser.on("closetag", () => {
    if (open.length === 1) isEntry = open[0] === "entry";
    open.pop();
  });
  try {
    parser.write(text.replace(/^\uFEFF?\s*/u, "")).close();
  } catch (error) {
    if (error instanceof NoEntry) return null;
    throw error;
  }
  if (!isEntry) return null;
  const word = (name: string): string | null => said[name]?.trim() || null;
  return { title: word("title"), updated: word("published") ?? word("updated"), address };
}

class NoEntry extends Error {}

const isYes = (value: string): boolean => /^(?:yes|1|true)$/iu.test(value);

type Members = Readonly<Record<string, Json>>;

const number =
  (key: string) =>
  (value: string): Members =>
    /^\d+$/u.test(value) ? { [key]: Number(value) } : {};

/** By parameter of a `faspe://` address: the member of a transfer specification, and its value. */
const MEMBERS: ReadonlyMap<string, (value: string) => Members> = new Map([
  ["token", (token: string): Members => ({ token })],
  ["cookie", (cookie: string): Members => ({ cookie })],
  ["sshfp", (sshfp: string): Members => ({ sshfp })],
  ["policy", (rate_policy: string): Members => ({ rate_policy })],
  ["targetrate", number("target_rate_kbps")],
  ["minrate", number("min_rate_kbps")],
  ["port", number("fasp_port")],
  ["httpport", number("http_fallback_port")],
  ["fallback", (word: string): Members => ({ http_fallback: isYes(word) })],
  ["enc", (name: string): Members => ({ cipher: cipherOf(name) })],
  ["tags64", (text: string): Members => tagsOf(text)],
]);

/** `aes128` or `aes256gcm` as a transfer specification spells it. */
const cipherOf = (name: string): string =>
  name.replace(/^aes(?=\d)/u, "aes-").replace(/(?<=\d)(?=[a-z])/u, "-");

function tagsOf(text: string): Members {
  try {
    return { tags: JSON.parse(Buffer.from(text, "base64").toString("utf8")) as Json };
  } catch {
    return {};
  }
}

/** Null when it is no address of a transfer. */
export function specOfAddress(address: string): Wire | null {
  const parts = /^faspe:\/\/(?:([^@/?]*)@)?(\[[^\]]*\]|[^:/?@]+)(?::(\d+))?(\/[^?]*)?(?:\?(.*))?$/isu.exec(
    address,
  );
  const [, user = "", host, port, path = "/", query = ""] = parts ?? [];
  if (host === undefined) return null;
  const spec: Record<string, Json> = {
    remote_host: host.replace(/^\[(.*)\]$/u, "$1"),
    ...(user === "" ? {} : { remote_user: decoded(user) }),
    ...(port === undefined ? {} : { ssh_port: Number(port) }),
    paths: [{ source: decoded(path) }],
  };
  for (const pair of query.split("&")) {
    // Padding of base64 stands there as it is: only the first `=` is a sign.
    const at = pair.indexOf("=");
    if (at > 0) Object.assign(spec, MEMBERS.get(pair.slice(0, at))?.(decoded(pair.slice(at + 1))));
  }
  return spec;
}

/** What a server is asked for a token with, where the address holds none. */
export const tokenRequest = (address: string): string =>
  `<?xml version="1.0" encoding="UTF-8"?><url-list xmlns="http://schemas.asperasoft.com/xml/url-list"><url href="${address.replace(
    /[&<>"]/gu,
    (mark) => `&#${mark.charCodeAt(0)};`,
  )}"/></url-list>`;

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
