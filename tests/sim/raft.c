/* One Raft group under everything that can go wrong, by the seed.  SPDX-License-Identifier: Apache-2.0 */
#include "sim/lib/group_play.h"

#define SHORT_COUNT 1500 /* some twenty seconds */

int main(int argc, char **argv)
{
    return world_main(argc, argv, SHORT_COUNT, group_play);
}
