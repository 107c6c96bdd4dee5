// The heads of responses, as bytes. Pure functions.
#pragma once

#include <string>

#include "router/api/http/exchange.h"

namespace mili::router {

struct ResponseFraming {
  bool keep_alive = true;
  bool http10 = false;
  bool is_head = false;  // the request was HEAD: no body follows
};

// Head and body of a whole reply.
std::string RenderReply(const HttpReply& reply, const std::string& request_id,
                        const ResponseFraming& framing);
// Head of a stream of server-sent events: chunked, or to the end of the connection for HTTP/1.0.
std::string RenderStreamHead(const HttpHeaders& headers, const std::string& request_id,
                             const ResponseFraming& framing);
// A piece of such a body, with the body's end behind the last one.
std::string RenderStreamPiece(const HttpStreamSource::Piece& piece, const ResponseFraming& framing);

// `id` if it may be echoed in a header: at most 128 printable ASCII characters; else empty.
std::string CleanRequestId(const std::string& id);

}  // namespace mili::router
