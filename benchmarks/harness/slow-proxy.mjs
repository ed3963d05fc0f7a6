// A proxy that lets each request wait before it passes it on: `node slow-proxy.mjs http://127.0.0.1:5000 2000` prints its
// address.
import { createServer, request } from "node:http";
import { setTimeout as wait } from "node:timers/promises";

const [target, milliseconds] = process.argv.slice(2);
const server = createServer(async (incoming, outgoing) => {
  const parts = [];
  for await (const part of incoming) parts.push(part);
  await wait(Number(milliseconds));
  const onward = request(
    new URL(incoming.url, target),
    { method: incoming.method, headers: { ...incoming.headers, host: new URL(target).host } },
    (answer) => {
      outgoing.writeHead(answer.statusCode, answer.headers);
      answer.pipe(outgoing);
    },
  );
  onward.on("error", () => outgoing.destroy());
  onward.end(Buffer.concat(parts));
});
server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
