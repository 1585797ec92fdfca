// A caller built against an older header has a shorter struct: whole fields that fit are written, others left alone.
#include "api/error.hpp"

#include <stdarg.h>
#include <stdio.h>

#include <algorithm>

namespace narrowcast {
namespace {

#define NC_SET(field, new_value)                                                                                       \
    if (error->size >= offsetof(nc_error, field) + sizeof error->field)                                                \
    error->field = new_value

size_t message_room(const nc_error* error) noexcept {
    const size_t begin = offsetof(nc_error, message);
    return error->size <= begin ? 0 : std::min(error->size - begin, sizeof error->message);
}

} // namespace

bool ready(nc_error* error) noexcept {
    if (error == nullptr)
        return true;
    if (error->size < sizeof error->size)
        return false;
    NC_SET(status, NC_OK);
    describe_element(error, NC_REASON_NONE, 0, 0.0);
    if (message_room(error) != 0)
        error->message[0] = '\0';
    return true;
}

nc_status fail(nc_error* error, nc_status status, const char* format, ...) noexcept {
    if (error == nullptr)
        return status;
    NC_SET(status, status);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, message_room(error), format, arguments); // writes nothing into no room
    va_end(arguments);
    return status;
}

void describe_element(nc_error* error, nc_reason reason, uint64_t index, double value) noexcept {
    if (error == nullptr)
        return;
    NC_SET(reason, reason);
    NC_SET(index, index);
    NC_SET(value, value);
}

} // namespace narrowcast
