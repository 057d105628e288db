/**
 * Links as addresses: which are plain files, which are packages of another archive kind, and which hold a secret.
 */
import { RunError } from "../errors.ts";

/** Name of the archive that serves plain files at links; a link is its path's only segment. */
export const LINK_ARCHIVE = "web";

/** Query fields that grant access by themselves: AWS, Google and Azure signed URLs, CDN tokens, keys and logins. */
const BEARER_FIELD =
  /^(?:x-(?:amz|goog)-(?:signature|credential|security-token)|(?:\w*[-_])?(?:signature|sig|token|jwt|passw(?:or)?d|passcode|secret|hdnea|hdnts|policy|credential|auth(?:orization)?)|(?:\w*[-_])?api[-_]?key|apikey|awsaccesskeyid|key-pair-id|accesskey|sessionid)$/iu;

/** Why a link is no plain file, and which archive kind it belongs to; null for a plain file. */
export type PackageKind = "faspex" | "ascp";

/**
 * An Aspera package or site rather than a plain file. Faspex 5 packages are below `/aspera/faspex/`, public ones
 * carry `context=`; Faspex 4 ones have `/public/package` or `/deliveries/` (IBM aspera-cli, faspex5 and faspex plugins).
 */
export function packageKindOf(link: string): PackageKind | null {
  if (/^(?:aspera|ascp|ssh|sftp|faspe):\/\//iu.test(link)) return "ascp";
  if (!/^https?:\/\//iu.test(link)) return /^[^\s@/:]+@[^\s@/:]+:/u.test(link) ? "ascp" : null;
  if (!URL.canParse(link)) return null;
  const url = new URL(link);
  if (/\/aspera\/faspex(?:\/|$)/iu.test(url.pathname)) return "faspex";
  if (/\/(?:public\/package|external_deliveries|deliveries)(?:\/|$)/iu.test(url.pathname)) return "faspex";
  return /(?:^|\.)faspex\./iu.test(url.hostname) || url.searchParams.has("context") ? "faspex" : null;
}

/** True when the path of an http(s) link ends in `.tcia`: a manifest, not a file of data. */
export function isManifestLink(link: string): boolean {
  return (
    /^https?:\/\//iu.test(link) && URL.canParse(link) && /\.tcia$/iu.test(decodedPath(new URL(link).pathname))
  );
}

/**
 * A link to one plain file in its one spelling: no fragment, only characters that stand in JSON as they are. Throws
 * `usage` for packages and ascp sites, other schemes, and links that hold a login or a signature: those would be
 * kept in selections and receipts, which hold no secrets.
 */
export function parseFileLink(link: string): string {
  const kind = packageKindOf(link);
  if (kind !== null) {
    const what = kind === "faspex" ? "an Aspera package" : "an Aspera site";
    throw new RunError("usage", `${shownHost(link)}: this is ${what}, and no plain file`, {
      hint: "it is asked for alone: gantry get LINK -o DIR",
    });
  }
  if (!/^https?:\/\//iu.test(link)) {
    const scheme = /^[a-z][a-z0-9+.-]*/iu.exec(link)?.[0]?.toLowerCase() ?? "";
    throw new RunError("usage", `no archive kind of this version serves ${scheme} links`, {
      hint: "plain files are fetched from https:// and http:// links",
    });
  }
  if (!URL.canParse(link)) {
    throw new RunError("usage", "this link is no address of a file", { hint: "it has to be pasted whole" });
  }
  const url = new URL(link);
  if (url.username !== "" || url.password !== "") {
    throw new RunError("usage", `the link to ${url.host} holds a login, which would be kept in receipts`, {
      hint: "give a link without user and password",
    });
  }
  for (const field of url.searchParams.keys()) {
    if (!BEARER_FIELD.test(field)) continue;
    throw new RunError(
      "usage",
      `the link to ${url.host} holds a signature or token (${JSON.stringify(field)}): whoever reads it could fetch the file, and it would be kept in receipts`,
      { hint: "give the file's lasting link, or fetch this one with curl" },
    );
  }
  url.hash = "";
  return url.href.replaceAll("\\", "%5C").replaceAll('"', "%22");
}

/** Last part of a link's path as a person would write it; empty when there is none. */
export function lastSegment(url: URL): string {
  return decodedPath(url.pathname.split("/").at(-1) ?? "");
}

function decodedPath(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Host of a link for messages: the rest may be a secret. */
function shownHost(link: string): string {
  if (/^[^\s@/:]+@[^\s@/:]+:/u.test(link) && !link.includes("://"))
    return link.split("@")[1]?.split(":")[0] ?? "";
  return URL.canParse(link) ? new URL(link).host || "the link" : "the link";
}
