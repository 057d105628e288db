/**
 * The wire of Faspex 5: the only file that knows its routes below `/api/v5` (OpenAPI description of the vendor). What
 * Faspex 4 can answer of the same is answered, too.
 */
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import type { SourceContext } from "../source.ts";
import { NEW_LINK } from "./failure.ts";
import { type FourDelivery, specOfAddress } from "./four.ts";
import { FaspexSession, type SessionParts } from "./session.ts";
import {
  isRecord,
  type PackageEntry,
  type PackageFacts,
  parseEntry,
  parsePackage,
  textOf,
  type Wire,
} from "./wire.ts";

/** A transfer specification, members as the server wrote them. */
export type TransferSpec = Wire;

/** The reference client asks for as many; a node answers with fewer (1000 at most, 100 at TCIA). */
const PAGE = 500;
const NEXT_TOKEN = "x-aspera-next-iteration-token";

export class FaspexApi {
  readonly session: FaspexSession;
  #facts: Promise<PackageFacts> | null = null;
  /** Learnt where the package does not say how its listings are paged. */
  #paged: boolean | null = null;

  constructor(parts: SessionParts) {
    this.session = new FaspexSession(parts);
  }

  get host(): string {
    return this.session.host;
  }

  get subject(): string {
    return this.session.subject;
  }

  /** The package, asked once and not retried; it is deleted, expired or held: `access-denied`. */
  facts(context: Context): Promise<PackageFacts> {
    this.#facts ??= this.#show(context)
      .then((facts) => this.#expectOpen(facts))
      .catch((error: unknown) => {
        this.#facts = null;
        throw error;
      });
    return this.#facts;
  }

  /** The same, tried again while that may help. */
  askFacts(context: SourceContext): Promise<PackageFacts> {
    return context.retry.run(this.subject, () => this.facts(context));
  }

  async #show(context: Context): Promise<PackageFacts> {
    const delivery = await this.session.delivery(context);
    if (delivery !== null) return wholePackage(this.session.number, delivery);
    const number = await this.#number(context);
    const { json } = await this.session.ask({ method: "GET", path: `/packages/${number}` }, context);
    const facts = parsePackage(json, number);
    if (facts === null) throw new RunError("archive-reply", `${this.subject}: the server shows no package`);
    return facts;
  }

  #expectOpen(facts: PackageFacts): PackageFacts {
    const refuse = (what: string, hint = NEW_LINK): RunError =>
      new RunError("access-denied", `${this.subject} ${what}`, { hint });
    if (facts.state === "expired")
      throw refuse(`is expired${facts.expires ? ` since ${facts.expires.slice(0, 10)}` : ""}`);
    if (facts.state === "deleted" || facts.filesOnServer === "deleted") throw refuse("was deleted");
    if (facts.state === "held")
      throw refuse("is held and not released yet", "ask the sender, or try again later");
    if (["failed", "error", "timed_out", "stopped"].includes(facts.uploadStatus))
      throw refuse("was never uploaded whole", "ask the sender");
    if (!["", "completed"].includes(facts.uploadStatus))
      throw new RunError("archive-busy", `${this.subject} is still being uploaded`, {
        retry: "spent",
        hint: "run the same command again when its sender has sent all of it",
      });
    return facts;
  }

  async #number(context: Context): Promise<string> {
    const { context: said } = await this.session.door(context);
    const number = said.package_id ?? said.id;
    if (number === undefined || said.type?.startsWith("external_upload")) {
      throw new RunError("usage", `${this.session.host}: this is a link to send files, and none to get any`, {
        hint: "send with: gantry put FILE… LINK",
      });
    }
    return number;
  }

  /**
   * The entries of a folder, `[]` for the package's root, page by page; after a retry entries come again. Throws
   * `access-denied`, `archive-…`.
   */
  async *browse(folder: readonly string[], context: SourceContext): AsyncGenerator<PackageEntry> {
    const facts = await this.askFacts(context);
    if (facts.paged ?? this.#paged ?? true) {
      try {
        yield* this.#browseByToken(folder, facts, context);
        return;
      } catch (error) {
        if (!(error instanceof NoSuchRoute)) throw error;
        this.#paged = false;
      }
    }
    yield* this.#browseByOffset(folder, facts, context);
  }

  async *#browseByToken(
    folder: readonly string[],
    facts: PackageFacts,
    context: SourceContext,
  ): AsyncGenerator<PackageEntry> {
    const seen = new Set<string>();
    for (let token = ""; ; ) {
      const answer = await this.#ask(
        `/packages/${facts.id}/files/received/page`,
        { per_page: String(PAGE), ...(token === "" ? {} : { iteration_token: token }), ...facts.recipient },
        folder,
        facts.paged === null && token === "",
        context,
      );
      yield* entriesOf(answer.json, folder);
      token = answer.header(NEXT_TOKEN) ?? "";
      if (token === "") return;
      // Without an end the listing would never be whole, whatever it holds.
      if (seen.has(token)) throw this.#strange(`gives the same page of ${shownPath(folder)} again and again`);
      seen.add(token);
    }
  }

  async *#browseByOffset(
    folder: readonly string[],
    facts: PackageFacts,
    context: SourceContext,
  ): AsyncGenerator<PackageEntry> {
    for (let offset = 0; ; ) {
      const { json } = await this.#ask(
        `/packages/${facts.id}/files/received`,
        { offset: String(offset), limit: String(PAGE), ...facts.recipient },
        folder,
        false,
        context,
      );
      const received = isRecord(json) && Array.isArray(json.items) ? json.items.length : 0;
      const total = isRecord(json) && typeof json.total_count === "number" ? json.total_count : null;
      yield* entriesOf(json, folder);
      offset += received;
      if (received === 0) {
        if (total !== null && offset < total)
          throw this.#strange(`lists ${offset} entries of ${shownPath(folder)}, and says it has ${total}`);
        return;
      }
      if (total !== null && offset >= total) return;
    }
  }

  #ask(
    path: string,
    query: Readonly<Record<string, string>>,
    folder: readonly string[],
    mayBeMissing: boolean,
    context: SourceContext,
  ) {
    // Without the slash before it TCIA's server answers with 500.
    const body = { path: `/${folder.join("/")}`, filters: { basenames: [] } };
    return context.retry.run(`${this.subject}: ${shownPath(folder)}`, async () => {
      const accepts = mayBeMissing ? [404] : [];
      const answer = await this.session.ask({ method: "POST", path, query, body, accepts }, context);
      if (answer.status === 404) throw new NoSuchRoute();
      return answer;
    });
  }

  /** How to get these paths (segments); the root, alone, is the whole package. The token in it is for exactly them, in order. */
  async downloadSpec(
    paths: readonly (readonly string[])[],
    type: "connect" | "http_gateway",
    context: Context,
  ): Promise<TransferSpec> {
    const facts = await this.facts(context);
    if (!facts.listed) return this.#wholeSpec(context);
    const { json } = await this.session.ask(
      {
        method: "POST",
        path: `/packages/${facts.id}/transfer_spec/download`,
        query: { transfer_type: type, type: "received", ...facts.recipient },
        // Only `path` is understood by every server.
        body: paths.every((path) => path.length === 0)
          ? {}
          : { paths: paths.map((path) => ({ path: `/${path.join("/")}` })) },
      },
      context,
    );
    const spec = isRecord(json) && isRecord(json.data) && !("token" in json) ? json.data : json;
    if (!isRecord(spec)) throw this.#strange("gives no transfer specification");
    return spec;
  }

  async #wholeSpec(context: Context): Promise<TransferSpec> {
    const delivery = await this.session.delivery(context);
    if (!delivery?.address) {
      throw new RunError("access-denied", `${this.subject} is empty, or its content was deleted`, {
        hint: NEW_LINK,
      });
    }
    const spec = specOfAddress(delivery.address);
    if (spec === null) throw this.#strange("gives no address of a transfer");
    return "token" in spec
      ? spec
      : { ...spec, token: await this.session.issueToken(delivery.address, context) };
  }

  /** Makes a package to send; nobody named: it goes to whom the link is of. Its number. */
  async createPackage(
    wanted: {
      readonly title: string;
      readonly note: string | null;
      readonly recipients: readonly string[];
      readonly encrypt: boolean;
    },
    context: SourceContext,
  ): Promise<string> {
    const { context: said } = await this.session.door(context);
    if (!said.type?.startsWith("external_upload")) {
      throw new RunError("usage", `${this.host}: this is a link to get files, and none to send any`, {
        hint: "the recipient can make an upload link: an invitation to send",
      });
    }
    const recipient_type = said.recipient_type ?? (/inbox/u.test(said.type) ? "shared_inbox" : "user");
    const names = wanted.recipients.length > 0 ? wanted.recipients : [said.name ?? ""];
    const { json } = await this.session.ask(
      {
        method: "POST",
        path: "/packages",
        body: {
          title: wanted.title,
          recipients: names.map((name) => ({ name, recipient_type })),
          ...(wanted.note === null ? {} : { note: wanted.note }),
          ...(wanted.encrypt ? { ear_enabled: true } : {}),
        },
      },
      context,
    );
    const id = isRecord(json) ? textOf(json.id) : null;
    if (id === null) throw this.#strange("names no package that could be sent to");
    return id;
  }

  /** How to send files of these names to a package that was made for them. */
  async uploadSpec(id: string, names: readonly string[], context: SourceContext): Promise<TransferSpec> {
    const path = `/packages/${id}/transfer_spec/upload`;
    const query = { transfer_type: "connect" };
    const { json } = await context.retry.run(this.subject, () =>
      this.session.ask({ method: "POST", path, query, body: { paths: names } }, context),
    );
    if (!isRecord(json)) throw this.#strange("gives no transfer specification");
    return json;
  }

  /** How far the server is with a package that was sent. */
  async uploadState(id: string, context: SourceContext): Promise<UploadState> {
    const path = `/packages/${id}/upload_details`;
    const { json } = await context.retry.run(this.subject, () =>
      this.session.ask({ method: "GET", path }, context),
    );
    const status = isRecord(json) ? textOf(json.upload_status) : null;
    if (!isRecord(json) || status === null) throw this.#strange("does not say how far the upload is");
    return { status, percent: textOf(json.percentage_complete) };
  }

  /** Base of the HTTP gateway, if the server has one. */
  async gatewayUrl(context: Context): Promise<URL | null> {
    if (!(await this.facts(context)).listed) return null;
    const read = async (path: string): Promise<Wire> => {
      const accepts = [401, 403, 404];
      const { json } = await this.session.ask({ method: "GET", path, accepts }, context);
      return isRecord(json) ? json : {};
    };
    const account = await read("/account");
    const named = account.gateway_enabled === false ? null : textOf(account.gateway_url);
    const url = named || textOf((await read("/configuration")).http_gateway_url);
    const { base } = await this.session.door(context);
    return url && URL.canParse(url, base.href) ? new URL(url, base.href) : null;
  }

  #strange(what: string): RunError {
    return new RunError("archive-reply", `${this.subject} ${what}`);
  }
}

/** All that an entry of Faspex 4 tells. */
const wholePackage = (id: string, { title, updated }: FourDelivery): PackageFacts => ({
  id,
  title,
  state: "",
  uploadStatus: "",
  totalBytes: null,
  totalFiles: null,
  filesOnServer: "",
  expires: null,
  encrypted: false,
  httpForbidden: false,
  listed: false,
  sent: updated,
  paged: null,
  recipient: {},
});

export interface UploadState {
  /** `completed`, `transferring`, `failed` … */
  readonly status: string;
  readonly percent: string | null;
}

/** The server has no pages by token: an older one. */
class NoSuchRoute extends Error {}

function* entriesOf(json: unknown, folder: readonly string[]): Generator<PackageEntry> {
  if (!isRecord(json) || !Array.isArray(json.items)) return;
  for (const each of json.items as readonly unknown[]) {
    const entry = parseEntry(each, folder);
    if (entry) yield entry;
  }
}

export const shownPath = (path: readonly string[]): string =>
  path.length === 0 ? "its root" : path.join("/");
