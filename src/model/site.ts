/**
 * Archives that no configuration names: an Aspera package that a link opens, and an ascp site. Both are known by a name
 * that holds no secret: `HOST/NUMBER` for a package, `aspera://USER@HOST[:PORT]` for a site.
 */
import { RunError } from "../errors.ts";
import { parsePath } from "./address.ts";
import { packageKindOf } from "./link.ts";

export interface Site {
  /** Archive kind, a key of the register of sources. */
  readonly kind: "faspex" | "aspera";
  /** Name of the archive that it is; free of secrets. */
  readonly archive: string;
  /** Decoded segments that the link itself names below it. */
  readonly path: readonly string[];
  /** The link as it was pasted where it grants access by itself; null where it holds no secret. */
  readonly bearer: string | null;
}

const PACKAGE_NAME =
  /^(?:localhost|[a-z0-9-]+(?:\.[a-z0-9-]+)+|\[[0-9a-f:]+\])(?::\d+)?\/(?:\d+|upload-[^/:\s]+)$/u;

/** The kind of an archive whose name is none of the configuration; null for every other name. */
export function siteKindOf(archive: string): Site["kind"] | null {
  if (archive.startsWith("aspera://")) return "aspera";
  return PACKAGE_NAME.test(archive) ? "faspex" : null;
}

/**
 * What a link or `user@host:dir` opens; null for a plain file and for other schemes. Throws `usage` for a link to a
 * package that is cut or lacks what opens it. No message repeats the link.
 */
export function readSite(text: string): Site | null {
  const link = text.trim();
  const kind = packageKindOf(link);
  if (kind === null) return null;
  return kind === "ascp" ? readAscpSite(link) : readPackageLink(link);
}

function readAscpSite(link: string): Site | null {
  const scp = /^([^\s@/:]+)@([^\s@/:]+):(.*)$/su.exec(link);
  const text = scp && !link.includes("://") ? `aspera://${scp[1]}@${scp[2]}/${scp[3]}` : link;
  if (!/^(?:aspera|ascp|ssh):\/\//iu.test(text)) return null;
  const parts = /^[a-z]+:\/\/(?:([^@/]*)@)?(\[[^\]]*\]|[^:/@]+)(?::(\d+))?(?:\/(.*))?$/isu.exec(text);
  const [, user, host, port, dir = ""] = parts ?? [];
  if (host === undefined) {
    throw new RunError("usage", "this is no address of an ascp site", {
      hint: "write it as aspera://USER@HOST/DIR or USER@HOST:DIR",
    });
  }
  if (!user || user.includes(":")) {
    throw new RunError(
      "usage",
      user ? `the address of ${host} holds a password` : `the address of ${host} names no user`,
      { hint: "write it as aspera://USER@HOST/DIR; a password goes into ASPERA_SCP_PASS" },
    );
  }
  if (!/^(?:[\p{L}\p{N}_.-]+|\[[0-9a-f:.%]+\])$/iu.test(host)) {
    throw new RunError(
      "usage",
      `${JSON.stringify(host)} in the address of an ascp site is no name of a host`,
      {
        hint: "write it as aspera://USER@HOST/DIR, or aspera://USER@HOST:PORT/DIR",
      },
    );
  }
  if (port !== undefined && (Number(port) < 1 || Number(port) > 65_535)) {
    throw new RunError("usage", `the address of ${host} names the port ${port}, which is none`, {
      hint: "a port is a number from 1 to 65535; without one it is 33001, or else 22",
    });
  }
  const archive = `aspera://${user}@${host.toLowerCase()}${port === undefined ? "" : `:${port}`}`;
  const path = parsePath(dir.replaceAll(/\/{2,}/gu, "/").replace(/^\//u, ""), link);
  return { kind: "aspera", archive, path, bearer: null };
}

/** What the `context` of a Faspex 5 public link says; every value is text, absent ones are left out. */
export type LinkContext = Readonly<Record<string, string>>;

/**
 * The text of a link's `context`, as it stands in the link but for percent codes; null when it has none. A blank stands
 * for the `+` that some mail program took for one.
 */
export function linkContextText(link: string): string | null {
  const raw = /[?&]context=([^&#]*)/u.exec(link)?.[1];
  if (raw === undefined || raw === "") return null;
  try {
    return decodeURIComponent(raw).replaceAll(" ", "+");
  } catch {
    return null;
  }
}

/** Base64 of either alphabet, with or without padding, over a JSON object. Null when it is none. */
export function parseLinkContext(text: string): LinkContext | null {
  try {
    const json: unknown = JSON.parse(Buffer.from(text, "base64").toString("utf8"));
    if (typeof json !== "object" || json === null || Array.isArray(json)) return null;
    const found: Record<string, string> = {};
    for (const [key, value] of Object.entries(json))
      if (typeof value === "string" || typeof value === "number") found[key] = String(value);
    return found;
  } catch {
    return null;
  }
}

function readPackageLink(link: string): Site {
  const url = URL.canParse(link) ? new URL(link) : null;
  if (url === null) throw cut("the link", "it is no address");
  const host = url.host.toLowerCase();
  if (url.protocol === "http:" && !/^(?:localhost|127\.[\d.]+|\[::1\])$/u.test(url.hostname)) {
    throw new RunError(
      "usage",
      `the link to ${host} would send what opens the package over http, for all to read`,
      {
        hint: "paste the link with https://",
      },
    );
  }
  const number = /\/(?:external_)?deliveries\/(\d+)(?:\/|$)/u.exec(url.pathname)?.[1];
  if (number !== undefined) {
    if (url.searchParams.has("passcode"))
      return { kind: "faspex", archive: `${host}/${number}`, path: [], bearer: link };
    throw cut(host, "it has no passcode");
  }
  const text = linkContextText(link);
  if (text === null) throw cut(host, "it has no context, which is what opens a package");
  const context = parseLinkContext(text);
  if (context === null) throw cut(host, "its context is cut or damaged");
  if (context.type?.startsWith("external_upload")) {
    const receiver = (context.name ?? "somebody").toLowerCase().replace(/[^a-z0-9-]+/gu, "-");
    return { kind: "faspex", archive: `${host}/upload-${receiver}`, path: [], bearer: link };
  }
  const id = context.package_id ?? context.id ?? "";
  if (!/^\d+$/u.test(id)) throw cut(host, "its context names no package");
  return { kind: "faspex", archive: `${host}/${id}`, path: [], bearer: link };
}

function cut(where: string, why: string): RunError {
  return new RunError("usage", `${where}: this link opens no package: ${why}`, {
    hint: "copy the whole link from the page of the data, in quotes: it ends in ?context=… or ?passcode=…",
  });
}

/**
 * The name of what a word of a command line opens, where the word itself is a secret: for logs, and for processes whose
 * arguments others can read. Null: the word may be shown. Of a link that can't be used the host.
 */
export function secretLinkName(word: string): string | null {
  if (packageKindOf(word.trim()) !== "faspex") return null;
  try {
    return readSite(word)?.archive ?? null;
  } catch {
    return URL.canParse(word) ? new URL(word).host : "a link";
  }
}
