/** Questions over HTTP: who asks, what a status means, rows as they stream. Knows no endpoint. */
import { RunError } from "../../../errors.ts";
import type { Context } from "../../../lib/context.ts";
import { parseJsonArray } from "../../../lib/json-array-stream.ts";
import { redactUrl } from "../../../lib/redact.ts";
import { type Http, type HttpRequest, type HttpResponse, statusError } from "../../../transports/http.ts";
import { type ReplyCache, throughCache } from "../../../transports/reply-cache.ts";
import type { TokenKeeper } from "../token.ts";
import type { Dialect, Question } from "./dialect.ts";
import { normalRow, type WireRow } from "./rows.ts";

export interface ConnectionOptions {
  readonly http: Http;
  /** Name of the configured archive, for messages. */
  readonly archive: string;
  /** Without a slash at the end. */
  readonly base: string;
  readonly access: Dialect["access"];
  readonly tokens: TokenKeeper;
  /** Of the historic service. */
  readonly apiKey: string | undefined;
  /** For rows; images and digests are always asked for. */
  readonly replies: ReplyCache | null;
  /** Whose answers are kept: archives answer people differently. Empty: nobody in particular. */
  readonly user: string;
}

const TEXT_LIMIT_BYTES = 1024 * 1024;
/** The newest official retriever raised its header wait from 30 s to 300 s (TCIA/data-retriever core/app/client.go 02cacbf). */
const FIRST_BYTE_MS = [60_000, 120_000, 300_000] as const;
/** What the web portal sends before anybody logs in; v2 answers 500 when the header is missing (getData.java). */
const GUEST = "Bearer undefined";

/** How long the first byte may take at the n-th try: zips are built on the fly, large ones slowly. */
export function firstByteTimeoutMs(attempt: number): number {
  return FIRST_BYTE_MS[Math.min(attempt, FIRST_BYTE_MS.length - 1)] as number;
}

export class NbiaConnection {
  readonly #options: ConnectionOptions;

  constructor(options: ConnectionOptions) {
    this.#options = options;
  }

  /** Rows under v4's names. `form`: sent as the body of a POST. Not retried here. */
  rows(
    question: Question,
    attempt: number,
    context: Context,
    form?: URLSearchParams,
  ): AsyncIterable<WireRow> {
    const { replies, user } = this.#options;
    const place = this.#place(question, attempt);
    const body = form?.toString() ?? "";
    const method = form ? "POST" : "GET";
    const sent = form ? { body, headers: { "content-type": "application/x-www-form-urlencoded" } } : {};
    const ask = async (): Promise<AsyncIterable<Uint8Array>> => {
      const response = await this.#send({ method, ...sent, ...place }, context);
      await this.#expectOk(response, context);
      return response.body;
    };
    const listsPatients =
      /\/(getPatient(ByCollectionAndModality)?|NewPatientsInCollection|PatientsByModality)$/u.test(
        question.path,
      );
    const asked = { method, url: place.url, body, user } as const;
    return throughCache(replies, asked, ask, (reply) => rowsIn(reply, place.url, listsPatients), context);
  }

  /** Images. Not retried here. A refusal that means one series is `access-item`. */
  async data(question: Question, attempt: number, context: Context): Promise<AsyncIterable<Uint8Array>> {
    const response = await this.#send(
      { method: "GET", ...this.#place(question, attempt), data: true },
      context,
    );
    await this.#expectOk(response, context);
    // Data is labelled application/octet-stream or application/dicom; only what is refused or broken is text.
    if (/^(application\/json|text\/)/iu.test(response.header("content-type") ?? "")) {
      const sentence = (await response.text(TEXT_LIMIT_BYTES)).slice(0, 300);
      throw new RunError("archive-reply", `a message came instead of data: ${sentence}`, {
        at: { url: response.url, archive: this.#options.archive },
      });
    }
    return response.body;
  }

  /** 32 hex digits in small letters. Not retried here. */
  async md5(question: Question, attempt: number, context: Context): Promise<string> {
    const response = await this.#send({ method: "GET", ...this.#place(question, attempt) }, context);
    await this.#expectOk(response, context);
    const text = (await response.text(TEXT_LIMIT_BYTES)).trim();
    if (!/^[0-9a-f]{32}$/iu.test(text)) {
      throw new RunError("archive-reply", "the archive's MD5 of an image is not 32 hex digits", {
        at: { url: response.url },
      });
    }
    return text.toLowerCase();
  }

  #place({ path, parameters }: Question, attempt: number): Pick<HttpRequest, "url" | "firstByteTimeoutMs"> {
    const query = new URLSearchParams(parameters).toString();
    return {
      url: new URL(`${this.#options.base}/${path}${query === "" ? "" : `?${query}`}`),
      firstByteTimeoutMs: firstByteTimeoutMs(attempt),
    };
  }

  /** Sends with what the version asks for; with a token once more, with a new one, when the old one was refused. */
  async #send(request: HttpRequest, context: Context): Promise<HttpResponse> {
    const { http, archive, access, tokens, apiKey } = this.#options;
    const as = (more: Readonly<Record<string, string>>): Promise<HttpResponse> =>
      http.request({ ...request, headers: { ...request.headers, ...more } }, context);
    if (access === "open") return as({});
    if (access === "key")
      return as(apiKey === undefined ? {} : { api_key: sendable(apiKey, "API key", archive) });
    for (let renewed = false; ; renewed = true) {
      const token = await tokens.token(context);
      if (token === null) return as(access === "guest" ? { authorization: GUEST } : {});
      const response = await as({ authorization: `Bearer ${sendable(token, "token", archive)}` });
      if (response.status !== 401 || renewed || !tokens.canRenew) return response;
      await response.discard();
      context.log("info", `${archive}: the access token was refused; logging in again`);
      tokens.refused(token);
    }
  }

  async #expectOk(response: HttpResponse, context: Context): Promise<void> {
    const { archive, access, apiKey } = this.#options;
    const at = { url: response.url, archive };
    const general = statusError(response, context);
    if (general) {
      await response.discard();
      throw general.with(at);
    }
    const type = response.header("content-type") ?? "";
    if (access === "key" && (response.status === 401 || response.status === 403)) {
      await response.discard();
      const name = archive.toUpperCase().replaceAll("-", "_");
      throw new RunError(
        "access-login",
        apiKey === undefined
          ? `${archive} asks for an API key (HTTP ${response.status})`
          : `${archive} does not accept the API key (HTTP ${response.status})`,
        { at, hint: `set GANTRY_${name}_API_KEY in the environment, or gantry login ${archive}` },
      );
    }
    if (response.status === 401) {
      await response.discard();
      throw this.#options.tokens.rejection().with(at);
    }
    if (response.status === 400) {
      const sentence = (await response.text(TEXT_LIMIT_BYTES)).slice(0, 300);
      // "…is not in public domain" (v1), "The user has not been granted the access to image with given…" (v2, v4).
      if (/not been granted|not in public domain/u.test(sentence)) {
        throw new RunError(
          "access-item",
          "the archive does not show this series: unknown, withdrawn or not permitted",
          { at },
        );
      }
      throw new RunError("archive-reply", `the archive refused the question: ${sentence}`, {
        at,
        retry: "never",
      });
    }
    if (response.status !== 200 && response.status !== 204) {
      await response.discard();
      throw new RunError(
        "archive-reply",
        `${archive}: an answer that NBIA does not give (HTTP ${response.status})`,
        {
          at,
          ...(response.status === 404
            ? { hint: "is the archive's URL that of an NBIA? `gantry archives` shows it" }
            : {}),
        },
      );
    }
    if (/^text\/html/iu.test(type)) {
      await response.discard();
      throw new RunError("archive-reply", "a web page came instead of data", { at });
    }
  }
}

/** A secret that a header can carry; one with a line break in it would look like a broken connection. */
function sendable(secret: string, what: string, archive: string): string {
  if (/^[\x21-\x7e]+$/u.test(secret)) return secret;
  throw new RunError("access-login", `the ${what} of ${archive} holds characters that can't be sent`, {
    hint: "is there a line break or a blank in it? Set it again, as printable ASCII characters only",
  });
}

/** Rows of a reply. No content, or an empty body with 200 and no type: nothing matches (getData.java, formatResponse). */
async function* rowsIn(
  reply: AsyncIterable<Uint8Array>,
  url: URL,
  listsPatients: boolean,
): AsyncGenerator<WireRow> {
  for await (const row of parseJsonArray(reply)) {
    if (typeof row !== "object" || row === null || Array.isArray(row)) {
      throw new RunError("archive-reply", "a row of the archive's reply is no object", {
        at: { url: redactUrl(url) },
      });
    }
    yield normalRow(row as WireRow, listsPatients);
  }
}
