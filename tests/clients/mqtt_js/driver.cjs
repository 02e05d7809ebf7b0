// Does with MQTT.js what it is told, one JSON object a line on standard input, and says on standard output, in the
// same way, what came of it and what arrives. It ends with its input.
"use strict";

const fs = require("node:fs");
const readline = require("node:readline");
const mqtt = require("mqtt");

const clients = new Map();

function say(object) {
  process.stdout.write(JSON.stringify(object) + "\n");
}

function fromJson(properties) {
  const made = { ...properties };
  if (made.userProperties) {
    made.userProperties = {};
    for (const [name, value] of properties.userProperties) (made.userProperties[name] ??= []).push(value);
  }
  if (made.correlationData) made.correlationData = Buffer.from(made.correlationData);
  if (made.payloadFormatIndicator !== undefined) made.payloadFormatIndicator = Boolean(made.payloadFormatIndicator);
  return made;
}

function toJson(properties) {
  const made = { ...properties };
  if (made.userProperties) {
    made.userProperties = Object.entries(made.userProperties).flatMap(([name, values]) =>
      [values].flat().map((value) => [name, value]),
    );
  }
  if (made.correlationData) made.correlationData = made.correlationData.toString();
  if (made.payloadFormatIndicator !== undefined) made.payloadFormatIndicator = Number(made.payloadFormatIndicator);
  if (made.subscriptionIdentifier !== undefined) made.subscriptionIdentifier = [made.subscriptionIdentifier].flat();
  return made;
}

function connect({ client: number, url, ca, options }, done) {
  const known = clients.get(number);
  let isAnswered = false;
  const answer = (result) => {
    if (!isAnswered) done(result);
    isAnswered = true;
  };
  const onConnect = (packet) =>
    answer({
      code: packet.reasonCode ?? packet.returnCode ?? 0,
      sessionPresent: packet.sessionPresent,
      properties: toJson(packet.properties),
    });
  const onError = (error) => answer({ code: error.code, sessionPresent: false, properties: {} });
  if (known) {
    known.answers = { onConnect, onError };
    known.client.reconnect();
    return;
  }
  if (ca) options.ca = fs.readFileSync(ca);
  if (options.properties) options.properties = fromJson(options.properties);
  const made = { client: mqtt.connect(url, { ...options, reconnectPeriod: 0 }), answers: { onConnect, onError } };
  made.acknowledgements = new Map();
  made.code = 0;
  clients.set(number, made);
  made.client.on("connect", (packet) => made.answers.onConnect(packet));
  made.client.on("error", (error) => made.answers.onError(error));
  made.client.on("disconnect", (packet) => (made.code = packet.reasonCode ?? 0));
  made.client.on("close", () => {
    say({ event: "end", client: number, code: made.code });
    made.code = 0;
  });
  made.client.on("packetreceive", (packet) => {
    if (["puback", "pubrec", "unsuback"].includes(packet.cmd)) made.acknowledgements.set(packet.messageId, packet);
  });
  made.client.on("message", (topic, payload, packet) =>
    say({
      event: "message",
      client: number,
      topic,
      payload: payload.toString("base64"),
      qos: packet.qos,
      retain: packet.retain,
      properties: toJson(packet.properties),
    }),
  );
}

function publish({ client: number, topic, payloads, options }, done) {
  const { client, acknowledgements } = clients.get(number);
  if (options.properties) options.properties = fromJson(options.properties);
  const answers = new Array(payloads.length);
  let left = payloads.length;
  payloads.forEach((payload, index) => {
    client.publish(topic, payload, { ...options }, (error, packet) => {
      const acknowledgement = acknowledgements.get(packet?.messageId);
      answers[index] = {
        code: error?.code ?? acknowledgement?.reasonCode ?? 0,
        reason: acknowledgement?.properties?.reasonString ?? "",
      };
      if (--left === 0) done(answers);
    });
  });
}

function subscribe({ client: number, filter, options, properties }, done) {
  const { client } = clients.get(number);
  client.subscribe({ [filter]: options }, properties ? { properties } : {}, (error, granted, packet) =>
    done(packet ? packet.granted[0] : (error?.code ?? 0x80)),
  );
}

function unsubscribe({ client: number, filter }, done) {
  clients.get(number).client.unsubscribe(filter, (_error, packet) => {
    const code = packet?.granted?.[0] ?? packet?.reasonCode ?? 0;
    done(code);
  });
}

const verbs = {
  connect,
  publish,
  subscribe,
  unsubscribe,
  disconnect({ client: number, code }, done) {
    clients.get(number).client.end(false, code ? { reasonCode: code } : {}, () => done(0));
  },
  vanish({ client: number }, done) {
    clients.get(number).client.stream.destroy();
    done(0);
  },
  close({ client: number }, done) {
    const known = clients.get(number);
    clients.delete(number);
    if (known) known.client.end(true, {}, () => done(0));
    else done(0);
  },
};

readline
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const request = JSON.parse(line);
    verbs[request.verb](request, (result) => say({ id: request.id, result }));
  })
  .on("close", () => process.exit(0));
