/** Packages as a Faspex holds them: the same trees, delivered in every state and by every age of server. */
import { createHash } from "node:crypto";
import type { SandboxPackage } from "../../../sandbox/data/packages.ts";
import { AT_REST_PASSPHRASE, encryptedTree } from "../../../sandbox/fasp/encrypted-tree.ts";

/**
 * The servers, each below a folder of its own: `current` as 5.0.13 and later, `gateway` the same with an HTTP gateway of
 * version 1, `gateway3` of version 3, `old` before 5.0.13, `four` Faspex 4.
 */
export type ServerName = "current" | "gateway" | "gateway2" | "gateway3" | "old" | "four";

export type LinkState = "fine" | "expired" | "used-up" | "mfa" | "unknown-passcode";

export interface Delivery {
  /** Name of its link in the sandbox. */
  readonly name: string;
  readonly server: ServerName;
  /** Package number. */
  readonly number: string;
  readonly passcode: string;
  readonly package: SandboxPackage;
  /** Where it lies on the transfer server, with a slash in front and none behind. */
  readonly place: string;
  readonly link: LinkState;
  readonly state: "released" | "held" | "deleted" | "expired";
  readonly uploadStatus: "completed" | "transferring";
  readonly recipient: "user" | "workgroup" | "none";
  readonly paging: "token" | "offset";
  /** A browse of a path without a slash in front fails. */
  readonly wantsSlash: boolean;
  /** Passphrase of encryption at rest; null: none. */
  readonly passphrase: string | null;
  readonly preventHttp: boolean;
  /** `multi_session` is a threshold in bytes; clients that take it for a number of processes start millions. */
  readonly threshold: boolean;
  /** The answer with the transfer spec is wrapped in `data`; of Faspex 4: the entry comes without a token. */
  readonly wrapped: boolean;
}

export const RECIPIENT_ID = "17";

type Traits = Partial<Omit<Delivery, "name" | "package" | "number" | "passcode" | "place">>;

/** Of the first package one delivery for each state; of the others one each. */
export function deliveriesOf(packages: readonly SandboxPackage[], seed: number): Delivery[] {
  const [first, ...others] = packages;
  if (first === undefined) return [];
  const variants: readonly (readonly [string, Traits])[] = [
    ["package", {}],
    ["offset", { paging: "offset" }],
    ["workgroup", { recipient: "workgroup" }],
    ["no-recipient", { recipient: "none", wrapped: true }],
    ["slash", { wantsSlash: true, paging: "offset" }],
    ["threshold", { threshold: true }],
    ["encrypted", { passphrase: AT_REST_PASSPHRASE }],
    ["gateway", { server: "gateway" }],
    ["gateway2", { server: "gateway2" }],
    ["gateway3", { server: "gateway3", paging: "offset" }],
    ["gateway-forbidden", { server: "gateway", preventHttp: true }],
    ["four", { server: "four" }],
    ["four-bare", { server: "four", wrapped: true }],
    ["four-unknown", { server: "four", link: "unknown-passcode" }],
    ["old", { server: "old", paging: "offset", wrapped: true }],
    ["held", { state: "held" }],
    ["deleted", { state: "deleted" }],
    ["expired", { state: "expired" }],
    ["uploading", { uploadStatus: "transferring" }],
    ["link-expired", { link: "expired" }],
    ["link-used-up", { link: "used-up" }],
    ["link-mfa", { link: "mfa" }],
    ["link-unknown", { link: "unknown-passcode" }],
    ["old-unknown", { server: "old", link: "unknown-passcode" }],
    ["old-expired", { server: "old", link: "expired" }],
    ["four-moved", { server: "four", link: "expired" }],
    ["four-deleted", { server: "four", state: "deleted" }],
  ];
  return [
    ...variants.map(([name, traits], index) => delivery(name, String(701 + index), first, traits, seed)),
    ...others.map((one, index) => {
      const name = ["thousand", "odd"][index] ?? `package-${index + 2}`;
      return delivery(name, String(801 + index), one, name === "odd" ? { paging: "offset" } : {}, seed);
    }),
  ];
}

export function delivery(
  name: string,
  number: string,
  content: SandboxPackage,
  traits: Traits,
  seed: number,
): Delivery {
  const hash = (what: string): string =>
    createHash("sha1").update(`${seed} ${number} ${name} ${what}`).digest("hex");
  const uuid = hash("uuid").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12}).*$/, "$1-$2-$3-$4-$5");
  const { passphrase = null } = traits;
  const root = passphrase === null ? content.root : encryptedTree(content.root, passphrase);
  return {
    name,
    server: "current",
    number,
    passcode: hash("passcode"),
    package: { title: content.title, root },
    place: `/${content.title} - ${uuid}.aspera-package/PKG - ${content.title}`,
    link: "fine",
    state: "released",
    uploadStatus: "completed",
    recipient: "user",
    paging: "token",
    wantsSlash: false,
    passphrase,
    preventHttp: false,
    threshold: false,
    wrapped: false,
    ...traits,
  };
}
