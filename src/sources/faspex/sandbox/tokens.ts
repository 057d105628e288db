/** The OAuth dance of a public link (Faspex 5.0.13 and later), and who a request of the API is from. */
import { createHmac, randomUUID } from "node:crypto";
import type { Reply, SandboxRequest, World } from "../../../sandbox/stand-ins.ts";
import type { Delivery } from "./deliveries.ts";
import { fieldsOf, html, json, parsed, refuse } from "./reply.ts";

/** The id of the web client, as a server's `config.js` shows it. */
const CLIENT_ID = "5ad0b0c5-7a1b-4d3c-9e07-0f6f2b1b7c11";
const TOKEN_LIFE_SECONDS = 3600;

/** What a link's context holds. All values are text. */
export interface LinkContext {
  readonly type: string;
  readonly id: string;
  readonly passcode: string;
  readonly name: string;
  readonly recipientType: string;
}

export function readContext(text: string): LinkContext | undefined {
  const value = parsed(Buffer.from(text.replaceAll(" ", "+"), "base64").toString("utf8"));
  if (Object.keys(value).length === 0) return undefined;
  const of = (key: string): string => (typeof value[key] === "string" ? value[key] : "");
  return {
    type: of("type"),
    id: of("package_id") || of("id"),
    passcode: of("passcode"),
    name: of("name"),
    recipientType: of("recipient_type"),
  };
}

/** Whom a token is of. */
export type Bearer =
  | { readonly kind: "download"; readonly delivery: Delivery }
  | { readonly kind: "upload"; readonly name: string; readonly recipientType: string };

interface Issued {
  readonly bearer: Bearer;
  readonly generation: number;
  readonly expiresMs: number;
}

export class TokenDesk {
  readonly #world: World;
  readonly #find: (context: LinkContext) => Promise<Bearer | string>;
  readonly #codes = new Map<string, Bearer>();
  readonly #tokens = new Map<string, Issued>();

  /** `find` gives whom a context lets in, or a sentence why it does not, or `mfa`. */
  constructor(world: World, find: (context: LinkContext) => Promise<Bearer | string>) {
    this.#world = world;
    this.#find = find;
  }

  reset(): void {
    this.#codes.clear();
    this.#tokens.clear();
  }

  /**
   * JavaScript with one assignment, keys unquoted, strings in single quotes, no mark at the end (aspera-cli 4.25
   * `api/faspex.rb` makes JSON of it by replacing quotes).
   */
  config(base: string, redirectUri: string): Reply {
    return {
      status: 200,
      headers: { "Content-Type": "application/javascript" },
      body: `window.faspexConfig = {\n  api_url: '${base}/api/v5',\n  client_id: '${CLIENT_ID}',\n  redirect_uri: '${redirectUri}',\n  auth_url: '${base}/auth'\n}\n`,
    };
  }

  async authorize({ query }: SandboxRequest, base: string, redirectUri: string): Promise<Reply> {
    if (query.get("client_id") !== CLIENT_ID) return refuse(404, 2201, "OAuth client not found");
    if (query.get("redirect_uri") !== redirectUri)
      return refuse(403, 2203, "The redirect URI is not one of the client's");
    if (query.get("response_type") !== "code") return refuse(400, 1003, "response_type must be code");
    const state = query.get("state") ?? "";
    const to = (parameters: Record<string, string>): Reply => ({
      status: 302,
      headers: { Location: `${redirectUri}?${new URLSearchParams({ ...parameters, state })}` },
    });
    const context = readContext(state);
    const bearer = context === undefined ? "The link is not valid." : await this.#find(context);
    if (bearer === "mfa")
      return {
        status: 302,
        headers: { Location: `${base}/public/verify?${new URLSearchParams({ state })}` },
      };
    if (typeof bearer === "string") return to({ action_message: bearer });
    const code = randomUUID();
    this.#codes.set(code, bearer);
    return to({ code });
  }

  token(request: SandboxRequest, redirectUri: string): Reply {
    const fields = fieldsOf(request);
    if (fields.get("grant_type") !== "authorization_code")
      return refuse(400, 2010, "The grant type is not supported");
    if (fields.get("client_id") !== CLIENT_ID) return refuse(401, 2015, "The client does not match the code");
    if (fields.get("redirect_uri") !== redirectUri)
      return refuse(400, 2021, "The redirect URI does not match that of the code");
    const code = fields.get("code") ?? "";
    const bearer = this.#codes.get(code);
    if (bearer === undefined) return refuse(400, 2020, "The authorization code is not valid");
    this.#codes.delete(code);
    const life = this.#world.tokens.ttlSeconds ?? TOKEN_LIFE_SECONDS;
    const expiresMs = Date.now() + life * 1000;
    const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
    const body = `${part({ typ: "JWT", alg: "HS256" })}.${part({
      iss: "faspex",
      aud: CLIENT_ID,
      jti: randomUUID(),
      iat: Math.floor(Date.now() / 1000),
      exp: Math.floor(expiresMs / 1000),
    })}`;
    const token = `${body}.${createHmac("sha256", CLIENT_ID).update(body).digest("base64url")}`;
    this.#tokens.set(token, { bearer, generation: this.#world.tokens.generation, expiresMs });
    return json(201, { token_type: "Bearer", access_token: token, expires_in: life });
  }

  /** Whom the Authorization header is of, or the refusal. */
  bearerOf({ headers }: SandboxRequest): Bearer | Reply {
    const header = headers.authorization;
    if (header === undefined) return refuse(401, 2002, "Authorization header is missing");
    const issued = this.#tokens.get(header.replace(/^Bearer /, ""));
    if (issued === undefined || !header.startsWith("Bearer "))
      return refuse(401, 2001, "Invalid credentials");
    if (issued.generation !== this.#world.tokens.generation || issued.expiresMs <= Date.now())
      return refuse(401, 2005, "Access token has expired");
    return issued.bearer;
  }

  verificationPage(): Reply {
    return html(200, "<h1>Verify that it is you</h1>");
  }
}
