/**
 * What opens sites to their users, for ascp and for SFTP alike: what the user exported, and what was typed when it was
 * missing. The password of an account and the passphrase of files that are encrypted at rest are two secrets.
 */
import { RunError } from "../errors.ts";
import type { Redactor } from "../lib/redact.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface SiteName {
  readonly host: string;
  readonly user: string;
}

export interface SiteSecretsOptions {
  readonly environment: Environment;
  readonly redactor: Redactor;
  /** `--key`. */
  readonly key?: string;
  /** True: the user wants files decrypted. */
  readonly decrypt?: boolean;
  /** Asks who sits at a terminal for a secret, not shown; null: no answer. Absent: there is nobody to ask. */
  readonly ask?: (question: string) => Promise<string | null>;
}

export class SiteSecrets {
  readonly #options: SiteSecretsOptions;
  readonly #passwords = new Map<string, string>();
  #passphrase: string | null = null;
  /** One question at a time. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: SiteSecretsOptions) {
    this.#options = options;
  }

  get key(): string | undefined {
    return this.#options.key;
  }

  /** Whether files that are encrypted at rest come out clear. */
  get decrypts(): boolean {
    return this.#options.decrypt === true || Boolean(this.#environment().ASPERA_SCP_FILEPASS);
  }

  /** The variables of ascp for a site; null: for a server that knows its users otherwise. */
  environmentOf(site: SiteName | null): Environment {
    const typed = site === null ? undefined : this.#passwords.get(nameOf(site));
    return { ...this.#environment(), ...(typed === undefined ? {} : { ASPERA_SCP_PASS: typed }) };
  }

  #environment(): Environment {
    const { environment } = this.#options;
    return this.#passphrase === null
      ? environment
      : { ...environment, ASPERA_SCP_FILEPASS: this.#passphrase };
  }

  /**
   * Asks for what is missing. Throws `access-login` when nothing is there that could open the site (password, key or
   * token), or the passphrase that the user's wish needs.
   */
  checkLogin(site: SiteName): Promise<void> {
    return this.#inTurn(async () => {
      const { ASPERA_SCP_PASS, ASPERA_SCP_KEY, ASPERA_SCP_TOKEN } = this.environmentOf(site);
      if (!this.#options.key && !ASPERA_SCP_PASS && !ASPERA_SCP_KEY && !ASPERA_SCP_TOKEN) {
        const typed = await this.#ask(`Password of ${site.user} at ${site.host} (not shown): `);
        if (typed === null) {
          const what = `there is neither a password nor a key for the user ${site.user} of ${site.host}`;
          const hint =
            "put the password into the variable ASPERA_SCP_PASS, or name a private key file with --key";
          throw new RunError("access-login", what, { hint });
        }
        this.#passwords.set(nameOf(site), typed);
      }
      if (this.#options.decrypt) await this.#needPassphrase(site.host);
    });
  }

  /** Asks for the passphrase if need be. Throws `access-login` when there is none to encrypt or decrypt with. */
  checkPassphrase(host: string): Promise<void> {
    return this.#inTurn(() => this.#needPassphrase(host));
  }

  async #needPassphrase(host: string): Promise<void> {
    if (this.#environment().ASPERA_SCP_FILEPASS) return;
    this.#passphrase = await this.#ask(`Passphrase of the encrypted files of ${host} (not shown): `);
    if (this.#passphrase !== null) return;
    throw new RunError("access-login", `there is no passphrase for the encrypted files of ${host}`, {
      hint: "put it into the variable ASPERA_SCP_FILEPASS; it is another one than the password of the account",
    });
  }

  async #ask(question: string): Promise<string | null> {
    const answer = (await this.#options.ask?.(question)) || null;
    if (answer !== null) this.#options.redactor.add(answer);
    return answer;
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const turn = this.#turn.then(work);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }
}

const nameOf = ({ host, user }: SiteName): string => `${user}@${host}`;
