/** Whether an NBIA answers, and to whom: a login where there is an account, then the list of collections. */
import { RunError } from "../../errors.ts";
import { type Finding, failed, fine, warning } from "../../model/finding.ts";
import { NO_FILTERS } from "../../model/query.ts";
import type { Source, SourceContext } from "../source.ts";
import type { TokenKeeper } from "./token.ts";

export async function* diagnose(
  source: Pick<Source, "archive" | "browse">,
  tokens: TokenKeeper,
  settings: Readonly<Record<string, string>>,
  context: SourceContext,
): AsyncGenerator<Finding> {
  const version = settings.api ?? "v4";
  try {
    // v1 and the historic v3 know no tokens (nbia-api restAPI/getData.java; TCIA-Community/TCIA-API-SDK).
    const login = version === "v1" || version === "v3" ? null : await tokens.logIn(context);
    if (login !== null) {
      yield fine("login", `user ${login.user} is logged in; a login lasts ${lasting(login.seconds)}`);
    }
  } catch (error) {
    if (!(error instanceof RunError)) throw error;
    yield failed("login", error);
    return;
  }
  try {
    let collections = 0;
    for await (const _ of source.browse({ path: [], filters: NO_FILTERS }, context)) collections += 1;
    yield collections > 0
      ? fine("archive", `NBIA ${version} answers and shows ${collections} collections`)
      : warning("archive", `NBIA ${version} answers and shows no collection`, "ask the archive for access");
  } catch (error) {
    if (!(error instanceof RunError)) throw error;
    yield failed("archive", error);
  }
}

const lasting = (seconds: number): string =>
  seconds >= 120 ? `${Math.round(seconds / 60)} minutes` : `${seconds} seconds`;
