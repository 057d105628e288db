/**
 * The Faspex stand-in: version 5 with the OAuth dance of public links (5.0.13 and later) and with the passcode header
 * (before), version 4, and the HTTP gateway, by IBM's API descriptions and what clients of TCIA's server report. It
 * shares no code with the client of this archive.
 */
import { filesBelow } from "../../sandbox/data/packages.ts";
import { hash32 } from "../../sandbox/hash32.ts";
import type { Reply, Route, SandboxRequest, StandIn, World } from "../../sandbox/stand-ins.ts";
import { browse } from "./sandbox/browse.ts";
import { type Delivery, deliveriesOf, RECIPIENT_ID, type ServerName } from "./sandbox/deliveries.ts";
import { entryReply, issueToken } from "./sandbox/four.ts";
import { GATEWAY_PATH, Gateway, type GatewayVersion } from "./sandbox/gateway.ts";
import { html, json, originOf, refuse } from "./sandbox/reply.ts";
import { downloadSpec } from "./sandbox/spec.ts";
import { type Bearer, type LinkContext, TokenDesk } from "./sandbox/tokens.ts";
import { UPLOAD_LINKS, Uploads } from "./sandbox/uploads.ts";

/** Folder of each server; the first one is at the top, as everywhere. */
const FOLDERS: Readonly<Record<ServerName, string>> = {
  current: "",
  gateway: "/gw",
  gateway2: "/gw2",
  gateway3: "/gw3",
  old: "/old",
  four: "/four",
};
const BASE = "/aspera/faspex";

/** Which version of the gateway a server has beside it. */
const GATEWAYS: Partial<Record<ServerName, GatewayVersion>> = { gateway: 1, gateway2: 2, gateway3: 3 };

export async function openFaspexStandIn(world: World): Promise<StandIn> {
  return new FaspexStandIn(world);
}

class FaspexStandIn implements StandIn {
  readonly kind = "faspex";
  readonly #world: World;
  readonly #desk: TokenDesk;
  readonly #gateway: Gateway;
  readonly #uploads: Uploads;
  #deliveries: { readonly of: unknown; readonly all: Delivery[] } | undefined;
  readonly #iterations = new Map<string, { readonly path: string; readonly offset: number }>();

  constructor(world: World) {
    this.#world = world;
    this.#desk = new TokenDesk(world, (context) => this.#letIn(context));
    this.#gateway = new Gateway(world);
    this.#uploads = new Uploads(world);
  }

  /** Packages are reached by links; nobody configures a Faspex to fetch one. */
  archives() {
    return [];
  }

  async links(origin: string): Promise<Record<string, string>> {
    const links: Record<string, string> = {};
    for (const delivery of await this.#all()) links[delivery.name] = linkOf(delivery, origin);
    for (const { name, type, to, recipientType } of UPLOAD_LINKS)
      links[name] = publicLink(origin, "upload", {
        resource: "packages",
        type,
        id: to,
        name: to,
        recipient_type: recipientType,
        passcode: this.#uploadPasscode(name),
        email: to,
      });
    const context = links.package?.split("?")[1];
    // The short form leads to the long one.
    if (context !== undefined) links.short = `${origin}/?${context}`;
    return links;
  }

  reset(): void {
    this.#desk.reset();
    this.#gateway.reset();
    this.#uploads.reset();
    this.#iterations.clear();
  }

  close(): void {
    this.#uploads.reset();
  }

  route(request: SandboxRequest): Route | undefined {
    const page = (answer: Route["answer"]): Route => ({ serves: "page", answer });
    const { path, query } = request;
    if (path === "/" && query.has("context")) return page(() => toPublic(request, `${BASE}/`));
    const found = /^(\/[a-z0-9]+)?\/aspera\/(faspex|http-gwy)(\/.*)?$/.exec(path);
    const server = (Object.keys(FOLDERS) as ServerName[]).find(
      (name) => FOLDERS[name] === (found?.[1] ?? ""),
    );
    if (found === null || server === undefined) return undefined;
    const rest = found[3] ?? "/";
    if (found[2] === "http-gwy") {
      const version = GATEWAYS[server];
      return version === undefined ? undefined : this.#gateway.route(version, rest, request, FOLDERS[server]);
    }
    return server === "four" ? this.#four(rest, request) : this.#five(server, rest, request);
  }

  #four(path: string, request: SandboxRequest): Route | undefined {
    const { transfers } = this.#world;
    const number = /^\/external_deliveries\/(\d+)$/.exec(path)?.[1];
    if (number !== undefined)
      return {
        serves: "page",
        answer: async () => {
          const passcode = request.query.get("passcode");
          const delivery = (await this.#all()).find(
            (one) =>
              one.server === "four" &&
              one.link !== "unknown-passcode" &&
              one.number === number &&
              one.passcode === passcode,
          );
          return entryReply(delivery, request, transfers);
        },
      };
    if (path === "/issue-token" && request.method === "POST")
      return {
        serves: "token",
        answer: async () => issueToken(await this.#all(), request, transfers),
      };
    return undefined;
  }

  #five(server: ServerName, path: string, request: SandboxRequest): Route {
    const base = `${FOLDERS[server]}${BASE}`;
    // Both forms are in use: a path of the server, and a whole address.
    const redirectUri = server === "gateway3" ? `${originOf(request)}${base}/token` : `${base}/token`;
    const page = (answer: Route["answer"]): Route => ({ serves: "page", answer });
    const instead = faultReply;
    if (path === "/" && request.query.has("context"))
      return page(() => toPublic(request, `${base}/public/package`));
    if (path.startsWith("/public/"))
      return page(() =>
        path === "/public/verify" ? this.#desk.verificationPage() : html(200, '<div id="root"></div>'),
      );
    if (server !== "old") {
      if (path === "/config.js") return page(() => this.#desk.config(base, redirectUri));
      if (path === "/auth/authorize_public_link")
        return { serves: "token", instead, answer: () => this.#desk.authorize(request, base, redirectUri) };
      if (path === "/auth/token" && request.method === "POST")
        return { serves: "token", instead, answer: () => this.#desk.token(request, redirectUri) };
    }
    if (path === "/health" || path === "/api/v5/configuration/ping")
      return page(() => ({
        status: 200,
        headers: { "X-IBM-Aspera": server === "old" ? "5.0.9" : "5.0.14" },
      }));
    const gateway =
      GATEWAYS[server] === undefined ? null : `${originOf(request)}${FOLDERS[server]}${GATEWAY_PATH}`;
    if (path === "/api/v5/configuration") return page(() => json(200, { http_gateway_url: gateway }));
    if (!path.startsWith("/api/v5/")) return page(() => html(404, "<h1>Not found</h1>"));
    return {
      serves: path.includes("/files/") ? "rows" : "page",
      instead,
      answer: () => this.#api(server, path.slice("/api/v5".length), request, gateway),
    };
  }

  async #api(
    server: ServerName,
    path: string,
    request: SandboxRequest,
    gateway: string | null,
  ): Promise<Reply> {
    const bearer = server === "old" ? await this.#byPasscode(request) : this.#desk.bearerOf(request);
    if ("status" in bearer) return bearer;
    if (path === "/account")
      return json(200, {
        gateway_enabled: gateway !== null,
        ...(gateway === null ? {} : { gateway_url: gateway }),
        connect_enabled: true,
        encryption_at_rest: "optional",
      });
    if (bearer.kind === "upload") return this.#uploads.answer(bearer, path, request);
    const [, number, rest = ""] = /^\/packages\/([^/]+)(\/.*)?$/.exec(path) ?? [];
    if (number === undefined) return refuse(404, 1002, "There is no such route");
    if (bearer.delivery.number !== number) return refuse(404, 1224, "The package was not found");
    return this.#package(bearer.delivery, rest, request);
  }

  #package(delivery: Delivery, rest: string, request: SandboxRequest): Reply {
    if (delivery.state === "deleted") return refuse(403, 1051, "The package was deleted");
    if (rest === "" && request.method === "GET") return json(200, describe(delivery));
    if (delivery.state === "held") return refuse(403, 1038, "The package is not released yet");
    if (delivery.state === "expired")
      return refuse(403, 1051, "The package has expired, its files were deleted");
    const browsing = /^\/files\/received(\/page)?$/.exec(rest);
    const transfer = rest === "/transfer_spec/download";
    if (request.method !== "POST" || (browsing === null && !transfer))
      return refuse(404, 1002, "There is no such route");
    if (!namesRecipient(delivery, request))
      return refuse(403, 3809, "You are not authorized to access this package");
    if (transfer) return downloadSpec(delivery, request, this.#world.transfers);
    const mode = browsing?.[1] === undefined ? "offset" : "page";
    // An older server has no other paging.
    if (mode === "page" && delivery.server === "old") return refuse(404, 1002, "There is no such route");
    return browse(delivery, mode, request, this.#iterations);
  }

  async #byPasscode({ headers }: SandboxRequest): Promise<Bearer | Reply> {
    const passcode = headers.passcode;
    if (passcode === undefined) return refuse(401, 2002, "Authorization header is missing");
    const delivery = (await this.#all()).find(
      (one) => one.server === "old" && one.passcode === passcode && one.link !== "unknown-passcode",
    );
    if (delivery === undefined) return refuse(401, 3805, "The download passcode is not valid");
    if (delivery.link === "expired") return refuse(403, 3807, "The link expired on 2024-01-31");
    return { kind: "download", delivery };
  }

  #uploadPasscode(name: string): string {
    const digits = hash32(`${this.#world.seed} ${name}`).toString(16).padStart(8, "0");
    return `${digits}-1b2c-4d3e-8f40-5a6b7c8d9e0f`;
  }

  async #letIn({ type, id, passcode }: LinkContext): Promise<Bearer | string> {
    const upload = UPLOAD_LINKS.find((link) => link.type === type);
    if (upload !== undefined)
      return passcode === this.#uploadPasscode(upload.name) && id === upload.to
        ? { kind: "upload", name: upload.to, recipientType: upload.recipientType }
        : "The passcode of the link is not valid.";
    if (type !== "external_download_package" && type !== "external_view_package")
      return "The link is not valid.";
    const delivery = (await this.#all()).find((one) => one.number === id && one.passcode === passcode);
    switch (delivery?.link) {
      case undefined:
      case "unknown-passcode":
        return "The passcode of the link is not valid.";
      case "expired":
        return "This link expired on 2024-01-31.";
      case "used-up":
        return "This link has been used as often as it may be.";
      case "mfa":
        return "mfa";
      default:
        return { kind: "download", delivery: delivery! };
    }
  }

  async #all(): Promise<Delivery[]> {
    const { packages } = await this.#world.packages.opened();
    if (this.#deliveries?.of !== packages)
      this.#deliveries = { of: packages, all: deliveriesOf(packages, this.#world.seed) };
    return [...this.#deliveries.all, ...this.#uploads.deliveries];
  }
}

function linkOf({ server, number, passcode }: Delivery, origin: string): string {
  const base = `${origin}${FOLDERS[server]}${BASE}`;
  if (server === "four") return `${base}/external_deliveries/${number}?passcode=${passcode}`;
  return publicLink(`${origin}${FOLDERS[server]}`, "package", {
    resource: "packages",
    type: "external_download_package",
    id: number,
    passcode,
    package_id: number,
    email: "help@archive.example",
  });
}

const publicLink = (server: string, page: string, context: Readonly<Record<string, string>>): string =>
  `${server}${BASE}/public/${page}?context=${encodeURIComponent(Buffer.from(JSON.stringify(context)).toString("base64"))}`;

const toPublic = ({ query }: SandboxRequest, to: string): Reply => ({
  status: 302,
  headers: { Location: `${to}?${new URLSearchParams({ context: query.get("context") ?? "" })}` },
});

/** Faults in Faspex' own words. */
function faultReply(fault: { readonly kind: string; readonly retryAfter?: number | string | undefined }) {
  if (fault.kind === "expired-token") return refuse(401, 2005, "Access token has expired");
  if (fault.kind === "500") return refuse(500, 1000, "An internal error occurred");
  if (fault.kind !== "429") return undefined;
  const reply = refuse(429, 1001, "Too many requests");
  return fault.retryAfter === undefined
    ? reply
    : { ...reply, headers: { ...reply.headers, "Retry-After": String(fault.retryAfter) } };
}

/** Newer servers want the first recipient named in the query. */
function namesRecipient({ recipient, server }: Delivery, { query }: SandboxRequest): boolean {
  if (recipient === "none" || server === "old") return true;
  const name = recipient === "user" ? "recipient_user_id" : "recipient_workgroup_id";
  return query.get(name) === RECIPIENT_ID;
}

function describe(delivery: Delivery): object {
  const {
    number,
    package: { title },
    recipient,
    state,
    uploadStatus,
  } = delivery;
  const released = "2024-03-23T21:07:20Z";
  return {
    id: number,
    title,
    package_uuid: /([0-9a-f-]{36})\.aspera-package/.exec(delivery.place)?.[1],
    release_date: released,
    created_at: released,
    expiration_date: null,
    state,
    status: uploadStatus === "completed" ? "completed" : "transferring",
    upload_status: uploadStatus,
    ...totalsOf(delivery),
    message: "A package of the sandbox.",
    sender: { id: "3", name: "Archive help desk", email: "help@archive.example" },
    recipients:
      recipient === "none"
        ? []
        : [{ id: RECIPIENT_ID, name: "Archive visitor", recipient_type: recipient, status: "new" }],
    private_recipients: [],
    metadata: {},
    ear_enabled: delivery.passphrase !== null,
    obfuscation_enabled: false,
    prevent_http_download: delivery.preventHttp,
    ...(delivery.server === "old" ? {} : { pagination_browsing: delivery.paging === "token" }),
    files_on_server: state === "expired" ? "deleted" : true,
    download_availability: state === "released" ? "full" : "not_available",
    archived: false,
  };
}

function totalsOf({ package: { root } }: Delivery): { total_bytes: number; total_files: number } {
  let bytes = 0;
  let files = 0;
  for (const { file } of filesBelow(root)) {
    bytes += file.sizeBytes;
    files++;
  }
  return { total_bytes: bytes, total_files: files };
}
