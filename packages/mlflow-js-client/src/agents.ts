import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { HttpProxyAgent } from "http-proxy-agent";
import { HttpsProxyAgent } from "https-proxy-agent";
import { getProxyForUrl } from "proxy-from-env";
import type { Connection } from "./connection.js";
import { MlflowInputError } from "./errors.js";

/** What a TLS connection to the server is checked with, and shows of itself. */
export function tlsOptions(connection: Connection): {
  rejectUnauthorized: boolean;
  ca?: string;
  cert?: string;
  key?: string;
} {
  const { insecureTls, certificates, clientCertificate } = connection;
  return {
    rejectUnauthorized: !insecureTls,
    ...(certificates !== undefined && { ca: certificates }),
    ...(clientCertificate !== undefined && { cert: clientCertificate, key: clientCertificate }),
  };
}

/**
 * The proxy that `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` name for an address, if they do.
 *
 * @throws MlflowInputError for one that is not http(s)
 */
export function proxyFor(address: string): URL | undefined {
  const proxy = getProxyForUrl(address);
  if (proxy === "") return undefined;
  if (/^https?:\/\//.test(proxy) && URL.canParse(proxy)) return new URL(proxy);
  const name = address.startsWith("https:") ? "HTTPS_PROXY" : "HTTP_PROXY";
  throw new MlflowInputError(`${name}: expected http(s)://host[:port], not "${proxy}"`, name);
}

/** Makes connections to an address, through a proxy if there is one. @param keepAlive whether they are used again */
export function agentFor(address: string, proxy: URL | undefined, keepAlive: boolean): HttpAgent {
  const isSecure = address.startsWith("https:");
  if (proxy === undefined) return isSecure ? new HttpsAgent({ keepAlive }) : new HttpAgent({ keepAlive });
  return isSecure ? new HttpsProxyAgent(proxy, { keepAlive }) : new HttpProxyAgent(proxy, { keepAlive });
}
