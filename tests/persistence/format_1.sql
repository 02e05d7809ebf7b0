-- A file as format 1 wrote it, to the last column; made by that version's own code.
PRAGMA auto_vacuum = INCREMENTAL;
BEGIN TRANSACTION;
CREATE TABLE outgoing (
    packet_key INTEGER PRIMARY KEY,
    position INTEGER NOT NULL,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    qos INTEGER NOT NULL,
    retain INTEGER NOT NULL,
    properties BLOB NOT NULL,
    expires_at_ns INTEGER,
    subscription_ids TEXT,
    is_released INTEGER NOT NULL,
    is_sent INTEGER NOT NULL
);
INSERT INTO "outgoing" VALUES(65537,1,'home/porch',X'32312E35',1,0,X'',NULL,NULL,0,0);
INSERT INTO "outgoing" VALUES(65538,2,'home/porch',X'32312E35',2,0,X'',1800000000000000000,'5',1,1);
CREATE TABLE received (
    packet_key INTEGER PRIMARY KEY
);
INSERT INTO "received" VALUES(131081);
CREATE TABLE retained (
    tree TEXT NOT NULL,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    qos INTEGER NOT NULL,
    properties BLOB NOT NULL,
    expires_at_ns INTEGER,
    stored_at_ns INTEGER NOT NULL,
    publisher TEXT NOT NULL,
    PRIMARY KEY (tree, topic)
);
INSERT INTO "retained" VALUES('account:5','home/porch',X'6F6E',1,X'0101',1800000000000000000,1,'device:7');
INSERT INTO "retained" VALUES('anonymous','lamp',X'6F6666',0,X'',NULL,2,'');
CREATE TABLE session (
    session_id INTEGER PRIMARY KEY,
    owner TEXT NOT NULL,
    client_id TEXT NOT NULL,
    level INTEGER NOT NULL,
    expiry_s INTEGER NOT NULL,
    disconnected_at_ns INTEGER,
    will_topic TEXT,
    will_payload BLOB,
    will_qos INTEGER,
    will_retain INTEGER,
    will_properties BLOB,
    will_expiry_s INTEGER,
    will_delay_s INTEGER,
    UNIQUE (owner, client_id)
);
INSERT INTO "session" VALUES(1,'account:5','porch',5,3600,1700000000000000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "session" VALUES(2,'device:7','door',4,3600,NULL,'home/porch/state',X'676F6E65',1,1,X'0101',60,5);
CREATE TABLE subscription (
    session_id INTEGER NOT NULL,
    topic_filter TEXT NOT NULL,
    options INTEGER NOT NULL,
    identifier INTEGER NOT NULL,
    PRIMARY KEY (session_id, topic_filter)
) WITHOUT ROWID;
INSERT INTO "subscription" VALUES(1,'home/#',2,5);
PRAGMA application_id = 1213678162;
PRAGMA user_version = 1;
COMMIT;
