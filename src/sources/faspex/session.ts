/**
 * The way in by a public link (IBM aspera-cli 4.25, faspex5 plugin and aspera/api/faspex.rb): the link leads to its
 * landing page, the application's `config.js` names the client, the link's context is exchanged for a code and the code
 * for a token (Faspex 5.0.13 and later). An older server takes the link's passcode with each request. A link of Faspex 4
 * is answered with its delivery at once.
 */
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import { type Redactor, redactUrl } from "../../lib/redact.ts";
import { type LinkContext, linkContextText, parseLinkContext } from "../../model/site.ts";
import type { Http, HttpRequest, HttpResponse } from "../../transports/http.ts";
import { NEW_LINK, readFailure, refusal, SECOND_FACTOR, shortened } from "./failure.ts";
import { type FourDelivery, parseDelivery, tokenRequest } from "./four.ts";
import { isRecord, textOf } from "./wire.ts";

export interface SessionParts {
  readonly http: Http;
  readonly archive: string;
  /** The pasted link; null when it is not known. */
  readonly link: () => string | null;
  readonly redactor: Redactor;
}

/** Where the application is, and what the link says. */
export interface Door {
  readonly base: URL;
  readonly contextText: string;
  readonly context: LinkContext;
}

interface Pass {
  readonly headers: Readonly<Record<string, string>>;
  readonly endsAtMs: number;
}

export interface Answer {
  readonly status: number;
  /** Null for an empty body. Throws nothing: a body that is no JSON is an `archive-reply` before. */
  readonly json: unknown;
  header(name: string): string | undefined;
}

const MAX_REDIRECTS = 3;
const FIRST_BYTE_MS = 60_000;
const MAX_PAGE_BYTES = 4 * 1024 * 1024;
/** A thousand entries with long names stay far below. */
const MAX_REPLY_BYTES = 64 * 1024 * 1024;
/** As long as the reference client keeps a token, whatever it says of itself. */
const TOKEN_LIFE_MS = 30 * 60_000;
const TOKEN_MARGIN_MS = 120_000;
const FALLBACK_BASE = "/aspera/faspex";

export class FaspexSession {
  readonly #parts: SessionParts;
  readonly archive: string;
  readonly host: string;
  /** Of the package, as the link says it. */
  readonly number: string;
  /** For people: what the link is to. */
  readonly subject: string;
  #door: Promise<Door> | null = null;
  #pass: Promise<Pass> | null = null;

  constructor(parts: SessionParts) {
    this.#parts = parts;
    this.archive = parts.archive;
    const [host = "", number = ""] = parts.archive.split("/");
    this.host = host;
    this.number = number;
    this.subject = number.startsWith("upload-")
      ? `the upload link to ${host}`
      : `package ${number} of ${host}`;
  }

  /** The landing page's place and the link's context, found once. Throws `access-denied`, `archive-…`. */
  door(context: Context): Promise<Door> {
    this.#door ??= this.#findDoor(context).catch((error: unknown) => {
      this.#door = null;
      throw error;
    });
    return this.#door;
  }

  /** One question to the application; a token that is over is renewed once. Not retried here. */
  async ask(
    request: {
      readonly method: "GET" | "POST";
      /** Below `/api/v5`. */
      readonly path: string;
      readonly query?: Readonly<Record<string, string>>;
      readonly body?: unknown;
      /** A status that is no failure for the asker. */
      readonly accepts?: readonly number[];
    },
    context: Context,
  ): Promise<Answer> {
    const { base } = await this.door(context);
    const url = new URL(`${base.href}/api/v5${request.path}`);
    for (const [name, value] of Object.entries(request.query ?? {})) url.searchParams.set(name, value);
    for (let tries = 0; ; tries += 1) {
      const pass = await this.#currentPass(context);
      const response = await this.#send(
        {
          method: request.method,
          url,
          headers: {
            accept: "application/json",
            ...(request.body === undefined ? {} : { "content-type": "application/json" }),
            ...pass.headers,
          },
          ...(request.body === undefined ? {} : { body: JSON.stringify(request.body) }),
          firstByteTimeoutMs: FIRST_BYTE_MS,
        },
        context,
      );
      const text = await response.text(MAX_REPLY_BYTES);
      const accepted = request.accepts?.includes(response.status) ?? false;
      if (accepted || (response.status >= 200 && response.status < 300))
        return {
          status: response.status,
          json: accepted ? null : parseReply(text, response),
          header: response.header,
        };
      // 3805 and 3806 are of the passcode itself: another token would say the same.
      const over = response.status === 401 && !/^38/u.test(readFailure(text).code);
      if (over && tries === 0 && "authorization" in pass.headers) {
        this.#pass = null;
        continue;
      }
      throw refusal({ subject: this.subject, response, text }, context);
    }
  }

  #send(request: HttpRequest, context: Context): Promise<HttpResponse> {
    return this.#parts.http.request({ ...request, redirects: "manual" }, context);
  }

  /**
   * What a link of Faspex 4 opens, asked anew: the token in it is good for a day. Null: it is of Faspex 5, or leads
   * there by now. Throws `access-denied`, `archive-…`.
   */
  async delivery(context: Context): Promise<FourDelivery | null> {
    if (linkContextText(this.#link()) !== null) return null;
    const { url, text } = await this.#land("application/xml", context);
    if (linkContextText(url.href) !== null) return null;
    const delivery = parseDelivery(text);
    if (delivery === null) throw this.#gone();
    if (delivery.address !== null) this.#parts.redactor.add(delivery.address);
    return delivery;
  }

  /** A token for a delivery whose address holds none. */
  async issueToken(address: string, context: Context): Promise<string> {
    const url = new URL(this.#link());
    url.pathname = url.pathname.replace(/\/(?:external_)?deliveries\/.*$/u, "/issue-token");
    url.search = "?direction=down";
    const headers = { "content-type": "application/vnd.aspera.url-list+xml", accept: "text/plain" };
    const body = tokenRequest(address);
    const response = await this.#send(
      { method: "POST", url, headers, body, firstByteTimeoutMs: FIRST_BYTE_MS },
      context,
    );
    const text = await response.text(MAX_PAGE_BYTES);
    if (response.status !== 200) throw refusal({ subject: this.subject, response, text }, context);
    const token = text.trim();
    if (token === "" || /[\s<]/u.test(token))
      throw new RunError("archive-reply", `${this.subject}: the server gave no token`, {
        at: { url: response.url },
      });
    this.#parts.redactor.add(token);
    return token;
  }

  #gone(): RunError {
    const why = "the link is of Faspex 4, and has expired, or the server has a newer Faspex by now";
    return new RunError("access-denied", `${this.subject} is not found: ${why}`, { hint: NEW_LINK });
  }

  #link(): string {
    const link = this.#parts.link();
    if (link === null) {
      throw new RunError("access-login", `the link that opens ${this.subject} is not known here`, {
        hint: "paste the package's link in place of its number: it is kept in the folder that was filled with it, and nowhere else",
      });
    }
    this.#parts.redactor.add(link);
    return link;
  }

  /** The page that the link leads to in the end, and where that is. */
  async #land(accept: string, context: Context): Promise<{ readonly url: URL; readonly text: string }> {
    let url = new URL(this.#link());
    for (let hop = 0; ; hop += 1) {
      const response = await this.#send(
        { method: "GET", url, headers: { accept }, firstByteTimeoutMs: FIRST_BYTE_MS },
        context,
      );
      const location = response.header("location");
      if (response.status < 300 || response.status > 399 || location === undefined) {
        const text = await response.text(MAX_PAGE_BYTES);
        const unknown = response.status === 404 || response.status === 410;
        if (unknown && linkContextText(this.#link()) === null) throw this.#gone();
        if (response.status >= 400) throw refusal({ subject: this.subject, response, text }, context);
        return { url, text };
      }
      await response.discard();
      const next = URL.canParse(location, url.href) ? new URL(location, url.href) : null;
      const elsewhere = next !== null && next.host !== url.host;
      if (next === null || elsewhere || hop >= MAX_REDIRECTS) {
        throw new RunError(
          "archive-redirect",
          `${this.subject}: the link leads ${next === null ? "nowhere" : elsewhere ? `to another server, ${next.host}` : "in a circle"}`,
          { at: { url: redactUrl(url) }, retry: "never", hint: NEW_LINK },
        );
      }
      url = next;
    }
  }

  async #findDoor(context: Context): Promise<Door> {
    const { url } = await this.#land("text/html,*/*", context);
    const contextText = linkContextText(url.href);
    const read = contextText === null ? null : parseLinkContext(contextText);
    if (contextText === null || read === null) {
      throw new RunError("access-denied", `${this.subject}: the link leads to a page that opens no package`, {
        at: { url: redactUrl(url) },
        hint: NEW_LINK,
      });
    }
    for (const secret of [contextText, read.passcode ?? ""]) this.#parts.redactor.add(secret);
    const path = url.pathname.replace(/\/public\/.*$/u, "").replace(/\/+$/u, "");
    return { base: new URL(path === "" ? FALLBACK_BASE : path, url.origin), contextText, context: read };
  }

  async #currentPass(context: Context): Promise<Pass> {
    const ready = await this.#pass;
    if (ready && context.clock.now().getTime() < ready.endsAtMs) return ready;
    this.#pass = this.#newPass(context).catch((error: unknown) => {
      this.#pass = null;
      throw error;
    });
    return this.#pass;
  }

  async #newPass(context: Context): Promise<Pass> {
    const door = await this.door(context);
    const client = await this.#readClient(door, context);
    const code = client === null ? null : await this.#authorise(door, client, context);
    if (client !== null && code !== null) return this.#exchange(door, client, code, context);
    const { passcode } = door.context;
    if (passcode === undefined) {
      throw new RunError("access-denied", `${this.subject}: the link holds no passcode`, { hint: NEW_LINK });
    }
    context.log("debug", `${this.host} is a Faspex older than 5.0.13: it is asked with the link's passcode`);
    return { headers: { passcode }, endsAtMs: Number.POSITIVE_INFINITY };
  }

  /** The web client's id and where it is sent back to; null on a server that has none. */
  async #readClient(door: Door, context: Context): Promise<Client | null> {
    const url = new URL(`${door.base.href}/config.js`);
    const response = await this.#send({ method: "GET", url, firstByteTimeoutMs: FIRST_BYTE_MS }, context);
    const text = await response.text(MAX_PAGE_BYTES);
    if (response.status === 404) return null;
    if (response.status !== 200) throw refusal({ subject: this.subject, response, text }, context);
    return parseClient(text);
  }

  /** The code for a token; null on a server that knows no such exchange. */
  async #authorise(door: Door, client: Client, context: Context): Promise<string | null> {
    const url = new URL(`${door.base.href}/auth/authorize_public_link`);
    url.search = new URLSearchParams({
      response_type: "code",
      state: door.contextText,
      client_id: client.id,
      redirect_uri: client.redirectUri,
    }).toString();
    const response = await this.#send({ method: "GET", url, firstByteTimeoutMs: FIRST_BYTE_MS }, context);
    const text = await response.text(MAX_PAGE_BYTES);
    if (response.status === 404) return null;
    const location = response.header("location");
    if (response.status < 300 || response.status > 399 || location === undefined)
      throw refusal({ subject: this.subject, response, text }, context);
    const to = new URL(location, url.href);
    const code = to.searchParams.get("code");
    if (code) {
      this.#parts.redactor.add(code);
      return code;
    }
    const message = to.searchParams.get("action_message");
    if (message) {
      throw new RunError(
        "access-denied",
        `${this.subject} is not opened by this link: ${shortened(message)}`,
        {
          hint: NEW_LINK,
        },
      );
    }
    throw new RunError("access-denied", `${this.subject} ${SECOND_FACTOR}`, {
      hint: "open the link in a browser, or ask the sender for a link without",
    });
  }

  async #exchange(door: Door, client: Client, code: string, context: Context): Promise<Pass> {
    const form = new URLSearchParams({
      client_id: client.id,
      grant_type: "authorization_code",
      code,
      redirect_uri: client.redirectUri,
    });
    const response = await this.#send(
      {
        method: "POST",
        url: new URL(`${door.base.href}/auth/token`),
        headers: { "content-type": "application/x-www-form-urlencoded", accept: "application/json" },
        body: form.toString(),
        firstByteTimeoutMs: FIRST_BYTE_MS,
      },
      context,
    );
    const text = await response.text(MAX_PAGE_BYTES);
    if (response.status < 200 || response.status > 299)
      throw refusal({ subject: this.subject, response, text }, context);
    const json = parseReply(text, response);
    const token = isRecord(json) ? textOf(json.access_token) : null;
    if (token === null)
      throw new RunError("archive-reply", `${this.subject}: the server gave no token`, {
        at: { url: response.url },
      });
    this.#parts.redactor.add(token);
    const now = context.clock.now().getTime();
    const endsAtMs = Math.min(
      now + TOKEN_LIFE_MS,
      (tokenEndMs(token) ?? Number.POSITIVE_INFINITY) - TOKEN_MARGIN_MS,
    );
    // A token that lives shorter than the margin is used once.
    return { headers: { authorization: /^\S+ /u.test(token) ? token : `Bearer ${token}` }, endsAtMs };
  }
}

interface Client {
  readonly id: string;
  /** Absolute or relative to the site; handed on as it is. */
  readonly redirectUri: string;
}

/** Keys are bare, values in quotes of either kind (`config.js` of Faspex 5). Null when it names no client. */
export function parseClient(script: string): Client | null {
  const value = (key: string): string | undefined =>
    new RegExp(`["']?\\b${key}["']?\\s{0,9}:\\s{0,9}(?:"([^"\\n]*)"|'([^'\\n]*)')`, "u")
      .exec(script)
      ?.slice(1)
      .find(Boolean);
  const id = value("client_id");
  const redirectUri = value("redirect_uri");
  return id === undefined || redirectUri === undefined ? null : { id, redirectUri };
}

/** When a JWT ends, in milliseconds since 1970; null for another token. */
function tokenEndMs(token: string): number | null {
  try {
    const claims: unknown = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8"));
    return isRecord(claims) && typeof claims.exp === "number" ? claims.exp * 1000 : null;
  } catch {
    return null;
  }
}

function parseReply(text: string, response: HttpResponse): unknown {
  if (text.trim() === "") return null;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new RunError("archive-reply", "the server answered with something else than JSON", {
      at: { url: response.url },
      cause,
    });
  }
}
