/**
 * Downloads over HTTPS through an Aspera HTTP Gateway (vendor's API descriptions of versions 1, 2 and 3), where the server
 * has one. One file a request; ranges are not offered.
 */
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import type { Http, HttpResponse } from "../../transports/http.ts";
import type { TransferSpec } from "./api.ts";
import { refusal } from "./failure.ts";
import { isRecord, textOf } from "./wire.ts";

const FIRST_BYTE_MS = 120_000;
const MAX_REPLY_BYTES = 1024 * 1024;

export class Gateway {
  readonly #http: Http;
  readonly #base: URL;
  readonly #subject: string;
  #version: Promise<1 | 3> | null = null;

  constructor(http: Http, base: URL, subject: string) {
    this.#http = http;
    this.#base = base;
    this.#subject = subject;
  }

  /** Scheme and host, for receipts. */
  get origin(): string {
    return this.#base.origin;
  }

  /** The bytes of the one file that the specification is for. `name`: what it is to be called on the way. */
  async download(spec: TransferSpec, name: string, context: Context): Promise<HttpResponse> {
    const whole: TransferSpec = {
      ...spec,
      source_root: textOf(spec.source_root) || "/",
      zip_required: false,
      download_name: name,
    };
    const response =
      (await this.#versionOf(context)) === 3
        ? await this.#data(
            this.#url("v3/download"),
            { "x-aspera-spec": Buffer.from(JSON.stringify(whole)).toString("base64") },
            context,
          )
        : await this.#data(await this.#announce(whole, context), {}, context);
    // One file was asked for by name: a JSON in its place is an error, unless the file is one.
    const type = response.header("content-type")?.split(";")[0]?.trim().toLowerCase() ?? "";
    const isPage =
      type === "text/html" ||
      (type === "application/json" && response.header("content-disposition") === undefined);
    if (isPage && !/\.(?:html?|json)$/iu.test(name)) {
      const text = await response.text(MAX_REPLY_BYTES);
      context.log("debug", `the gateway answered in place of the file: ${text.slice(0, 500)}`);
      throw new RunError(
        "archive-reply",
        `${this.#subject}: the HTTP gateway sent a page, and not the file ${name}`,
        {
          at: { url: response.url },
        },
      );
    }
    return response;
  }

  /** Whether the gateway answers, and as which version. Throws `archive-…`. */
  #versionOf(context: Context): Promise<1 | 3> {
    this.#version ??= this.#findVersion(context).catch((error: unknown) => {
      this.#version = null;
      throw error;
    });
    return this.#version;
  }

  async #findVersion(context: Context): Promise<1 | 3> {
    for (const path of ["info", "v1/info"]) {
      const response = await this.#http.request(
        { method: "GET", url: this.#url(path), firstByteTimeoutMs: FIRST_BYTE_MS },
        context,
      );
      const text = await response.text(MAX_REPLY_BYTES);
      if (response.status === 404) continue;
      if (response.status !== 200) throw refusal({ subject: this.#where, response, text }, context);
      const major = Number.parseInt(versionIn(text), 10);
      if (Number.isNaN(major)) continue;
      return major >= 3 ? 3 : 1;
    }
    throw new RunError("archive-reply", `${this.#where} does not answer as one`);
  }

  /** Versions 1 and 2: the specification first, then the place that is answered. */
  async #announce(spec: TransferSpec, context: Context): Promise<URL> {
    const response = await this.#http.request(
      {
        method: "POST",
        url: this.#url("v1/download"),
        headers: { "content-type": "application/json", accept: "application/json" },
        body: JSON.stringify({ transfer_spec: spec }),
        firstByteTimeoutMs: FIRST_BYTE_MS,
      },
      context,
    );
    const text = await response.text(MAX_REPLY_BYTES);
    if (response.status < 200 || response.status > 299)
      throw refusal({ subject: this.#where, response, text }, context);
    const json: unknown = JSON.parse(text);
    const id = isRecord(json) ? textOf(json.url)?.split(/[?#]/u)[0]?.split("/").at(-1) : undefined;
    if (!id) throw new RunError("archive-reply", `${this.#where} names no place to download from`);
    return this.#url(`v1/download/${id}`);
  }

  async #data(url: URL, headers: Readonly<Record<string, string>>, context: Context): Promise<HttpResponse> {
    const response = await this.#http.request(
      { method: "GET", url, headers, firstByteTimeoutMs: FIRST_BYTE_MS, data: true, redirects: "manual" },
      context,
    );
    if (response.status === 200) return response;
    const text = await response.text(MAX_REPLY_BYTES);
    throw refusal({ subject: this.#where, response, text }, context);
  }

  get #where(): string {
    return `${this.#subject}: the HTTP gateway ${this.#base.host}`;
  }

  #url(path: string): URL {
    return new URL(`${this.#base.href.replace(/\/+$/u, "")}/${path}`);
  }
}

function versionIn(text: string): string {
  try {
    const json: unknown = JSON.parse(text);
    return isRecord(json) ? (textOf(json.version) ?? "") : "";
  } catch {
    return "";
  }
}
